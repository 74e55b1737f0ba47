import { type BrokerEvent, createBroker, queue } from "anybroker";
import { expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import { until } from "../../brokers/until.ts";
import { RefusingProxy } from "../../sqs/refusing-proxy.ts";
import { describeSQS, optionsOf } from "./open-adapter.ts";

const WAIT_MS = 240_000;
const DENIED = { code: "AccessDeniedException" };
const EXPIRED = { code: "ExpiredTokenException", status: 403 };

describeSQS("what AWS refuses", (broker) => {
  /** A broker object whose way to SQS can refuse. */
  async function shopBehindProxy(visibilityTimeoutMs: number) {
    const place = broker.newNamespace();
    onTestFinished(() => place.remove());
    const proxy = await RefusingProxy.before(broker.url);
    const events: BrokerEvent[] = [];
    const adapter = sqs({ ...optionsOf(broker, place), endpoint: proxy.url, visibilityTimeoutMs });
    const shop = createBroker(adapter, { onEvent: (event) => events.push(event) });
    onTestFinished(() => shop.stop({ timeoutMs: 1 }));
    const stalls = () => events.flatMap((event) => (event.type === "stalled" ? event.error : []));
    return { proxy, shop, stalls, events };
  }

  const orders = queue<object>("orders");

  test("one message whose delete is refused does not become many, and is deleted when the right is back", async () => {
    const { proxy, shop, stalls, events } = await shopBehindProxy(6_000);
    const starts: number[] = [];
    const consumer = shop.consume(
      orders,
      (_, { attempt }) => {
        starts.push(attempt);
        if (attempt === 1) throw new Error("not yet");
      },
      { retry: { attempts: 5, delay: { firstMs: 0, jitter: 0 } } },
    );
    await shop.start();
    proxy.refuse(["DeleteMessageBatch"], DENIED);
    await shop.send(orders, {}, { id: "one" });
    // For longer than a lease.
    await until("many tries", WAIT_MS, () => expect(proxy.refused("DeleteMessageBatch")).toBeGreaterThan(6));
    expect(consumer.status()).toMatchObject({ state: "stalled", fenced: 0, retried: 1, deadLettered: 0 });
    expect(consumer.status().error).toMatchObject({
      code: "unauthorized",
      message: expect.stringMatching(/deleting messages of queue "orders".*AccessDenied/),
    });
    expect(stalls().map(({ code }) => code)).toEqual(["unauthorized"]);
    // The poll that was under way when the first delete was refused may have brought the copy.
    expect(starts).toEqual([1, 2].slice(0, starts.length));
    const { ready, unsettled } = await shop.depth(orders);
    expect(ready + (unsettled ?? 0)).toBe(2);
    proxy.allow();
    await until("an empty queue", WAIT_MS, async () => {
      expect(await shop.depth(orders)).toMatchObject({ ready: 0, unsettled: 0 });
    });
    await until("the end of it", WAIT_MS, () => expect(consumer.status()).toMatchObject({ unsettled: 0 }));
    expect(starts).toEqual([1, 2]);
    expect(consumer.status()).toMatchObject({ state: "running", error: undefined, succeeded: 1, fenced: 0 });
    expect(events.at(-1)).toMatchObject({ type: "flowing" });
  });

  test("an expired token stalls the consumer, and loses and repeats nothing", async () => {
    const { proxy, shop, stalls } = await shopBehindProxy(9_000);
    const gate = Promise.withResolvers<void>();
    const starts: string[] = [];
    const aborted: unknown[] = [];
    const consumer = shop.consume(
      orders,
      async (_, { id, signal }) => {
        starts.push(id);
        signal.addEventListener("abort", () => aborted.push(signal.reason));
        await gate.promise;
      },
      { concurrency: 3, prefetch: { messages: 3 } },
    );
    await shop.start();
    const ids = ["a", "b", "c"];
    for (const id of ids) await shop.send(orders, {}, { id });
    await until("all of them", WAIT_MS, () => expect(starts).toHaveLength(3));
    proxy.refuse("all", EXPIRED);
    // The handlers run on: what they hold is theirs for as long as SQS said before.
    await until("a refused renewal", WAIT_MS, () =>
      expect(proxy.refused("ChangeMessageVisibilityBatch")).toBeGreaterThan(0),
    );
    await until("the stall", WAIT_MS, () => expect(consumer.status().state).toBe("stalled"));
    gate.resolve();
    await until("refused deletes", WAIT_MS, () => expect(proxy.refused("DeleteMessageBatch")).toBeGreaterThan(1));
    expect(aborted).toEqual([]);
    expect(consumer.status()).toMatchObject({ state: "stalled", succeeded: 3, fenced: 0, unsettled: 3 });
    expect(new Set(stalls().map(({ code }) => code))).toEqual(new Set(["unauthorized"]));
    proxy.allow();
    await until("an empty queue", WAIT_MS, async () => {
      expect(await shop.depth(orders)).toMatchObject({ ready: 0, unsettled: 0 });
    });
    await until("the flow", WAIT_MS, () =>
      expect(consumer.status()).toMatchObject({ state: "running", unsettled: 0, fenced: 0 }),
    );
    expect(starts.toSorted()).toEqual(ids);
  });

  test("a stop does not wait for the right, and what could not be deleted comes again", async () => {
    const { proxy, shop } = await shopBehindProxy(3_000);
    const starts: string[] = [];
    const consumer = shop.consume(orders, (_, { id }) => void starts.push(id));
    await shop.start();
    proxy.refuse(["DeleteMessageBatch"], DENIED);
    await shop.send(orders, {}, { id: "one" });
    await until("the stall", WAIT_MS, () => expect(consumer.status().state).toBe("stalled"));
    await shop.stop();
    expect(consumer.status()).toMatchObject({ state: "stopped", succeeded: 1, fenced: 1 });
    proxy.allow();
    await shop.start();
    await until("it again", WAIT_MS, () => expect(starts).toEqual(["one", "one"]));
    await until("an empty queue", WAIT_MS, async () => {
      expect(await shop.depth(orders)).toMatchObject({ ready: 0, unsettled: 0 });
    });
  });
});
