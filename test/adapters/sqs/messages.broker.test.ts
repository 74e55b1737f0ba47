import { SendMessageBatchCommand, SendMessageCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { createBroker, type Delivery, queue } from "anybroker";
import { HEADER } from "anybroker/adapter";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import { underPrefix } from "../../../adapters/sqs/names.ts";
import type { QueueAddress } from "../../../core/address.ts";
import { clientOf } from "../../brokers/sqs/cases.ts";
import { until } from "../../brokers/until.ts";
import { send } from "../../sqs/opened.ts";
import { headersOf, outgoing } from "../../sqs/outgoing.ts";
import { topology, workQueue } from "../seam-values.ts";
import { describeSQS, openAdapter, taking, useAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeSQS("messages", (broker) => {
  const { place, options, adapter } = useAdapter(broker);
  const client: SQSClient = clientOf(broker);

  afterAll(() => client.destroy());

  async function declared(name: string, ordered = false): Promise<{ of: QueueAddress; url: string }> {
    const of: QueueAddress = { kind: "queue", name };
    expect(await adapter().declare(topology({ queues: [workQueue(name, { ordered })] }))).toEqual([]);
    return { of, url: `${broker.url}/000000000000/${underPrefix(place.namePrefix, name)}${ordered ? ".fifo" : ""}` };
  }

  test("of a plain sender are handled as they are", async () => {
    const { url } = await declared("plain");
    const { MessageId } = await client.send(
      new SendMessageCommand({
        QueueUrl: url,
        MessageBody: '{"city":"Zürich"}',
        MessageAttributes: {
          city: { DataType: "String", StringValue: "Zürich" },
          count: { DataType: "Number", StringValue: "7" },
          image: { DataType: "Binary", BinaryValue: Uint8Array.of(0, 255) },
        },
      }),
    );
    const handled: { body: unknown; delivery: Delivery }[] = [];
    const shop = createBroker(sqs(options));
    onTestFinished(() => shop.stop());
    shop.consume(queue("plain"), (body, delivery) => void handled.push({ body, delivery }));
    await shop.start();
    await until("the message", WAIT_MS, () => expect(handled).toHaveLength(1));
    expect(handled[0]?.body).toEqual({ city: "Zürich" });
    expect(handled[0]?.delivery).toMatchObject({ id: MessageId, key: undefined, attempt: 1 });
    expect({ ...handled[0]?.delivery.headers }).toEqual({ city: "Zürich", count: "7", image: "AP8=" });
    expect(handled[0]?.delivery.native).toMatchObject({ MessageId, Body: '{"city":"Zürich"}' });
  });

  test("of a plain sender in order have their group as key, and keep it through a retry", async () => {
    const { url } = await declared("plain-ordered", true);
    const Entries = ["1", "2", "3"].map((Id) => ({
      Id,
      MessageBody: Id,
      MessageGroupId: "group",
      MessageDeduplicationId: Id,
    }));
    await client.send(new SendMessageBatchCommand({ QueueUrl: url, Entries }));
    const handled: string[] = [];
    const shop = createBroker(sqs(options), { consume: { retry: { delay: { firstMs: 1, jitter: 0 } } } });
    onTestFinished(() => shop.stop());
    shop.consume(queue<number>("plain-ordered", { ordered: true }), (body, { key, attempt }) => {
      handled.push(`${key} ${body} ${attempt}`);
      if (attempt === 1) throw new Error("not yet");
    });
    await shop.start();
    await until("all of them", WAIT_MS, () => expect(handled).toHaveLength(6));
    expect(handled).toEqual([1, 2, 3].flatMap((body) => [`group ${body} 1`, `group ${body} 2`]));
  });

  test("that only look like those of anybroker are dead-lettered, not retried", async () => {
    const { url, of } = await declared("malformed");
    const MessageAttributes = { anybroker: { DataType: "String", StringValue: '{"id":5}' } };
    await client.send(new SendMessageCommand({ QueueUrl: url, MessageBody: "no JSON", MessageAttributes }));
    const shop = createBroker(sqs(options));
    onTestFinished(() => shop.stop());
    const consumer = shop.consume(queue("malformed"), () => {});
    await shop.start();
    const { inbox } = await taking(adapter(), { kind: "dead-letters", of });
    await until("the dead letter", WAIT_MS, () => expect(inbox.messages).toHaveLength(1));
    expect(inbox.messages[0]?.headers[HEADER.deadReason]).toBe("invalid");
    expect(Buffer.from(inbox.messages[0]?.body ?? []).toString()).toBe("no JSON");
    expect(consumer.status()).toMatchObject({ started: 0, deadLettered: 1 });
  });

  test("of another anybroker come as they were: more headers than SQS takes, and bytes that are no text", async () => {
    const { of } = await declared("packed");
    const other = await openAdapter(options);
    onTestFinished(() => other.close());
    const headers = headersOf([
      ...Array.from({ length: 40 }, (_, index) => [`header-${index}`, `value ${index}`] as const),
      ["__proto__", "trap"],
      ["control", "a\u0001b"],
      ["empty", ""],
    ]);
    const body = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const sent = outgoing({ id: "o-1", key: "k/ü", contentType: "application/octet-stream", headers, body });
    const bodiless = outgoing({ id: "o-2", body: new Uint8Array() });
    expect(await send(other, [sent, bodiless], of)).toEqual([{ status: "confirmed" }, { status: "confirmed" }]);
    const { inbox } = await taking(adapter(), of);
    await until("both", WAIT_MS, () => expect(inbox.messages).toHaveLength(2));
    const [first, second] = [...inbox.messages].sort((one, two) => (one.id < two.id ? -1 : 1));
    expect(first).toMatchObject({ id: "o-1", key: "k/ü", contentType: "application/octet-stream" });
    expect(Buffer.from(first?.body ?? [])).toEqual(Buffer.from(body));
    expect(new Map(Object.entries(first?.headers ?? {}))).toEqual(new Map(Object.entries(headers)));
    expect(second?.body).toHaveLength(0);
  });

  test("of the largest size that is promised are taken, whatever their bytes are", async () => {
    const { of } = await declared("large");
    const body = Buffer.alloc(adapter().capabilities.maxMessageBytes, 0xff);
    expect(await send(adapter(), [outgoing({ body, size: body.length })], of)).toEqual([{ status: "confirmed" }]);
    const { inbox } = await taking(adapter(), of);
    await until("the message", WAIT_MS, () => expect(inbox.messages).toHaveLength(1));
    expect(Buffer.from(inbox.messages[0]?.body ?? []).equals(body)).toBe(true);
  });
});
