import { createBroker, queue } from "anybroker";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import type { QueueAddress } from "../../../core/address.ts";
import { until } from "../../brokers/until.ts";
import { send } from "../../sqs/opened.ts";
import { outgoing } from "../../sqs/outgoing.ts";
import { topology, workQueue } from "../seam-values.ts";
import { describeSQS, openAdapter, optionsOf, taking } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeSQS("message groups", (broker) => {
  const place = broker.newNamespace();
  const options = optionsOf(broker, place);
  afterAll(() => place.remove());

  test("are parallel, over processes too, and each is serial", async () => {
    const orders = queue<{ key: string; n: number }>("parallel", { ordered: true, key: ({ key }) => key });
    const gate = Promise.withResolvers<void>();
    const begun: string[] = [];
    const running = new Map<string, number>();
    let most = 0;
    const consumer = () => {
      const shop = createBroker(sqs(options), { consume: { concurrency: 10 } });
      onTestFinished(() => shop.stop());
      shop.consume(orders, async ({ key, n }) => {
        begun.push(`${key}${n}`);
        running.set(key, (running.get(key) ?? 0) + 1);
        most = Math.max(most, running.get(key) ?? 0);
        if (key === "slow") await gate.promise;
        running.set(key, (running.get(key) ?? 0) - 1);
      });
      return shop;
    };
    const shops = [consumer(), consumer()];
    await Promise.all(shops.map((shop) => shop.start()));
    const keys = ["slow", "a", "b", "c"];
    for (let n = 0; n < 5; n++) {
      await Promise.all(keys.map((key) => shops[0]?.send(orders, { key, n })));
    }
    // A group that waits holds up no other, and of itself nothing but its first is begun.
    await until("all of the others", WAIT_MS, () => expect(begun).toHaveLength(16));
    expect(begun.filter((one) => one.startsWith("slow"))).toEqual(["slow0"]);
    gate.resolve();
    await until("all", WAIT_MS, () => expect(begun).toHaveLength(20));
    expect(most).toBe(1);
    for (const key of keys) {
      expect(begun.filter((one) => one.startsWith(key))).toEqual([0, 1, 2, 3, 4].map((n) => `${key}${n}`));
    }
  });

  test("what one consumer holds of a group keeps the rest of it from others, and is given back before it", async () => {
    const of: QueueAddress = { kind: "queue", name: "held" };
    const first = await openAdapter(options);
    const second = await openAdapter(options);
    onTestFinished(async () => {
      await Promise.all([first.close(), second.close()]);
    });
    expect(await first.declare(topology({ queues: [workQueue(of.name, { ordered: true })] }))).toEqual([]);
    await send(first, [outgoing({ id: "a0", key: "a" })], of);
    const holder = await taking(first, of, 1);
    await until("the first", WAIT_MS, () => expect(holder.inbox.messages).toHaveLength(1));
    for (const [id, key] of [
      ["a1", "a"],
      ["b0", "b"],
      ["a2", "a"],
    ] as const)
      await send(first, [outgoing({ id, key })], of);
    const other = await taking(second, of);
    const ids = () => other.inbox.messages.map(({ id }) => id);
    await until("the other group", WAIT_MS, () => expect(ids()).toEqual(["b0"]));
    await holder.receiver.close();
    const settle = async () => {
      const tokens = other.inbox.messages.map(({ token }) => ({ token, action: "ack" as const }));
      await other.receiver.settle(tokens);
    };
    await until("the rest", WAIT_MS, async () => {
      await settle();
      expect(ids()).toHaveLength(4);
    });
    expect(ids().filter((id) => id.startsWith("a"))).toEqual(["a0", "a1", "a2"]);
    expect(other.inbox.messages.find(({ id }) => id === "a0")?.redeliveries).toBe(1);
  });

  test("after a failure the rest of a group waits behind its retry, and others pass", async () => {
    const orders = queue<{ key: string; n: number }>("retried", { ordered: true, key: ({ key }) => key });
    const handled: string[] = [];
    const shop = createBroker(sqs(options), { consume: { retry: { delay: { firstMs: 300, jitter: 0 } } } });
    onTestFinished(() => shop.stop());
    shop.consume(orders, ({ key, n }, { attempt }) => {
      handled.push(`${key}${n}/${attempt}`);
      if (key === "a" && n === 0 && attempt < 3) throw new Error("not yet");
    });
    await shop.start();
    for (const [key, n] of [
      ["a", 0],
      ["a", 1],
      ["b", 0],
      ["a", 2],
      ["b", 1],
    ] as const)
      await shop.send(orders, { key, n });
    await until("all of them", WAIT_MS, () => expect(handled).toHaveLength(7));
    expect(handled.filter((one) => one.startsWith("a"))).toEqual(["a0/1", "a0/2", "a0/3", "a1/1", "a2/1"]);
    expect(handled.filter((one) => one.startsWith("b"))).toEqual(["b0/1", "b1/1"]);
    expect(handled.indexOf("b1/1")).toBeLessThan(handled.indexOf("a1/1"));
  });
});
