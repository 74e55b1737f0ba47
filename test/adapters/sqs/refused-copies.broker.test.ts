import { SendMessageCommand } from "@aws-sdk/client-sqs";
import { type BrokerEvent, createBroker, type Queue, queue } from "anybroker";
import { HEADER } from "anybroker/adapter";
import { deadLetters } from "anybroker/dead-letters";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import { until } from "../../brokers/until.ts";
import { describeSQS, openAdapter, optionsOf, taking } from "./open-adapter.ts";

const WAIT_MS = 240_000;
/** What SQS takes, body and attributes together. */
const MOST_BYTES = 1_048_576;

/** A failing body of so many bytes. */
function bad(bytes: number): string {
  return JSON.stringify("x".repeat(bytes - 2));
}

describeSQS("copies that SQS cannot take", (broker) => {
  const place = broker.newNamespace();
  const options = optionsOf(broker, place, { maxReceives: 10 });
  afterAll(() => place.remove());

  /** A consumer of six large messages of another sender, which fail, and of twenty others. */
  async function consumed(orders: Queue<string>, body: string) {
    const adapter = sqs(options);
    const events: BrokerEvent[] = [];
    const shop = createBroker(adapter, { destinations: [orders], onEvent: (event) => events.push(event) });
    onTestFinished(() => shop.stop({ timeoutMs: 1_000 }));
    await shop.start();
    const QueueUrl = `${broker.url}/000000000000/${adapter.physicalName({ kind: "queue", name: orders.name }).slice(6)}`;
    const fifo = orders.options.ordered === true;
    for (let n = 0; n < 6; n++) {
      const group = fifo ? { MessageGroupId: `g${n}`, MessageDeduplicationId: `bad-${n}` } : {};
      const url = fifo ? `${QueueUrl}.fifo` : QueueUrl;
      await adapter.clients?.sqs.send(new SendMessageCommand({ QueueUrl: url, MessageBody: body, ...group }));
    }
    const handled: string[] = [];
    let starts = 0;
    const consumer = shop.consume(
      orders,
      (text) => {
        if (text.startsWith("x")) {
          starts++;
          throw new TypeError("no stock ".repeat(100));
        }
        handled.push(text);
      },
      { concurrency: 2, prefetch: { messages: 5 }, retry: { attempts: 2, delay: { firstMs: 100, jitter: 0 } } },
    );
    for (let n = 0; n < 20; n++) await shop.send(orders, `good ${n}`, fifo ? { key: `g${n % 6}` } : {});
    await until("the good ones", WAIT_MS, () => expect(handled).toHaveLength(20));
    await until("the bad ones to be dead", WAIT_MS, () => expect(consumer.status().deadLettered).toBe(6));
    await until("all to be settled", WAIT_MS, () => expect(consumer.status().unsettled).toBe(0));
    expect(consumer.status()).toMatchObject({ parked: 0, state: "running" });
    expect(events.some(({ type }) => type === "parked")).toBe(false);
    return { shop, starts: () => starts };
  }

  test.for([false, true])("a body near the limit: as small a copy as can be (ordered: %s)", async (isOrdered) => {
    const orders = queue<string>(`near-${isOrdered}`, { ordered: isOrdered });
    const { shop, starts } = await consumed(orders, bad(MOST_BYTES - 700));
    // A machine that stands still for longer than a lease starts some once more.
    expect(starts()).toBeGreaterThanOrEqual(12);
    const adapter = await openAdapter(options);
    onTestFinished(() => adapter.close());
    const { inbox } = await taking(adapter, { kind: "dead-letters", of: { kind: "queue", name: orders.name } });
    await until("the dead letters", WAIT_MS, () => expect(inbox.messages).toHaveLength(6));
    for (const { headers, body } of inbox.messages) {
      expect({ ...headers }).toMatchObject({ [HEADER.deadReason]: "attempts", [HEADER.deadErrorClass]: "TypeError" });
      expect(headers[HEADER.deadError]?.length).toBeLessThanOrEqual(64);
      expect(body).toHaveLength(MOST_BYTES - 700);
    }
    await shop.stop();
  });

  test.for([false, true])("a body at the limit: SQS itself moves it (ordered: %s)", async (isOrdered) => {
    const orders = queue<string>(`at-${isOrdered}`, { ordered: isOrdered });
    const { shop } = await consumed(orders, bad(MOST_BYTES));
    const dead = deadLetters(shop, orders);
    await until("SQS to move them", WAIT_MS, async () => expect(await dead.count()).toMatchObject({ count: 6 }));
    await until("nothing to be left", WAIT_MS, async () => {
      expect(await shop.depth(orders)).toMatchObject({ ready: 0, unsettled: 0 });
    });
    const { entries } = await dead.list();
    expect(entries.map(({ size, valid }) => ({ size, valid }))).toEqual(
      Array.from({ length: 6 }, () => ({ size: MOST_BYTES, valid: "unknown" })),
    );
    // A copy is too large for the queue as well: each stays, and the run says why.
    const replayed = await (await dead.replay("all")).run();
    expect(replayed).toMatchObject({ done: 0, failed: 6 });
    expect(replayed.failures[0]?.error).toMatchObject({ code: "too-large" });
    await shop.stop();
  });
});
