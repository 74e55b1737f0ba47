import { bytesCodec, type Codec, createBroker, queue, topic } from "anybroker";
import { memory } from "anybroker/memory";
import { expect, onTestFinished, test } from "vitest";

test("a caller that uses its buffer again changes nothing that was sent", async () => {
  const blobs = queue<Uint8Array>("blobs", { codec: bytesCodec });
  const broker = createBroker(memory());
  onTestFinished(() => broker.stop());
  const got: string[] = [];
  const consumer = broker.consume(blobs, (body) => void got.push(Buffer.from(body).toString()));
  await broker.start();
  await consumer.pause();
  const buffer = Buffer.from("first");
  await broker.send(blobs, buffer);
  buffer.write("SECON");
  const sending = broker.send(blobs, buffer);
  buffer.write("xxxxx");
  await sending;
  consumer.resume();
  await expect.poll(() => got, { timeout: 240_000 }).toEqual(["first", "SECON"]);
});

test("bytes whose buffer is gone are refused, and empty bytes are sent", async () => {
  const blobs = queue<Uint8Array>("blobs", { codec: bytesCodec });
  const broker = createBroker(memory(), { destinations: [blobs] });
  onTestFinished(() => broker.stop());
  await broker.start();
  const transferred = new Uint8Array(10);
  structuredClone(transferred.buffer, { transfer: [transferred.buffer] });
  const buffer = new ArrayBuffer(10, { maxByteLength: 20 });
  const beyond = new Uint8Array(buffer, 5, 5);
  buffer.resize(2);
  for (const gone of [transferred, beyond]) {
    const refusal = { code: "invalid", message: expect.stringContaining("are gone") };
    await expect(broker.send(blobs, gone)).rejects.toMatchObject(refusal);
  }
  await broker.send(blobs, new Uint8Array());
  expect(await broker.depth(blobs)).toMatchObject({ ready: 1 });
});

test("a codec that encodes into one buffer changes nothing that was sent", async () => {
  const buffer = new Uint8Array(1);
  const codec: Codec = {
    contentType: "application/x-one-byte",
    encode: (body) => {
      buffer[0] = body as number;
      return buffer;
    },
    decode: (bytes) => bytes[0],
  };
  const numbers = queue<number>("numbers", { codec });
  const broker = createBroker(memory());
  onTestFinished(() => broker.stop());
  const got: number[] = [];
  broker.consume(numbers, (body) => void got.push(body));
  await broker.start();
  await Promise.all([1, 2, 3].map((n) => broker.send(numbers, n)));
  await expect.poll(() => [...got].sort(), { timeout: 240_000 }).toEqual([1, 2, 3]);
});

test("a codec that decodes in place spoils neither the next attempt nor another subscription", async () => {
  const codec: Codec = {
    contentType: "application/x-xor",
    encode: (body) => Buffer.from(body as string).map((byte) => byte ^ 0x55),
    decode: (bytes) => {
      for (const [index, byte] of bytes.entries()) bytes[index] = byte ^ 0x55;
      return Buffer.from(bytes).toString();
    },
  };
  const secrets = topic<string>("secrets", { codec });
  const broker = createBroker(memory());
  onTestFinished(() => broker.stop());
  const got: string[] = [];
  for (const name of ["one", "other"]) {
    broker.subscribe(
      secrets,
      name,
      (body, { attempt }) => {
        got.push(`${name} ${attempt} ${body}`);
        if (attempt === 1) throw new Error("again");
      },
      { retry: { delay: { firstMs: 1 } } },
    );
  }
  await broker.start();
  await broker.publish(secrets, "plain");
  const expected = ["one", "other"].flatMap((name) => [1, 2].map((attempt) => `${name} ${attempt} plain`));
  await expect.poll(() => got.toSorted(), { timeout: 240_000 }).toEqual(expected);
});
