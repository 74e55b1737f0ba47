import { type Codec, createBroker, queue } from "anybroker";
import { deadLetters, type Edit, type JsonPatch } from "anybroker/dead-letters";
import { memory, memorySpace } from "anybroker/memory";
import { expect, test } from "vitest";

/** JSON as its sender wrote it. */
const asWritten: Codec = {
  contentType: "application/json",
  encode: (body) => Buffer.from(String(body)),
  decode: (bytes) => Buffer.from(bytes).toString(),
};
const BODY = '{"id":9007199254740993,"total":12.10}';
const addCurrency: JsonPatch = [{ op: "add", path: "/currency", value: "EUR" }];
const addByFunction: Edit = (body) => ({ ...(body as object), currency: "EUR" });
const orders = queue<unknown>("orders");

async function dead() {
  const space = memorySpace();
  const foreign = createBroker(memory({ space }), { destinations: [queue("orders", { codec: asWritten })] });
  await foreign.start();
  await foreign.send(queue<unknown>("orders", { codec: asWritten }), BODY);
  await foreign.stop();
  const broker = createBroker(memory({ space }));
  const fails = (): void => {
    throw new Error("no currency");
  };
  const consumer = broker.consume(orders, fails, { retry: { attempts: 1 } });
  await broker.start();
  await expect.poll(() => consumer.status().deadLettered).toBe(1);
  await consumer.stop();
  const sentBack = async (): Promise<unknown[]> => {
    const bodies: unknown[] = [];
    const reader = createBroker(memory({ space }));
    reader.consume(queue<unknown>("orders", { codec: asWritten }), (body) => void bodies.push(body));
    await reader.start();
    await expect.poll(() => bodies).toHaveLength(1);
    await reader.stop();
    return bodies;
  };
  return { letters: deadLetters(broker, orders), sentBack, stop: () => broker.stop() };
}

test("a patch that would round a number of the body is refused when it is planned", async () => {
  const { letters, stop } = await dead();
  const { plan } = await letters.replay("all", { edit: addCurrency });
  expect(plan).toMatchObject({ count: 0, refused: [{ count: 1, why: expect.stringContaining("cannot keep") }] });
  await stop();
});

test("a function that would round a number of the body fails, and the entry stays", async () => {
  const { letters, stop } = await dead();
  const { run } = await letters.replay("all", { edit: addByFunction });
  expect(await run()).toMatchObject({ failures: [{ error: { code: "invalid" } }] });
  expect((await letters.list()).entries).toHaveLength(1);
  await stop();
});

test("an edit that writes the number anew, and a replay without one, are sent", async () => {
  const first = await dead();
  const rewrite: JsonPatch = [{ op: "replace", path: "/id", value: "9007199254740993" }, ...addCurrency];
  await (await first.letters.replay("all", { edit: rewrite })).run();
  expect(await first.sentBack()).toEqual(['{"id":"9007199254740993","total":12.1,"currency":"EUR"}']);
  await first.stop();
  const second = await dead();
  await (await second.letters.replay("all")).run();
  expect(await second.sentBack()).toEqual([BODY]);
  await second.stop();
});
