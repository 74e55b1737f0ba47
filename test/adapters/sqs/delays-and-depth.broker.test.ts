import { createBroker, queue } from "anybroker";
import { HEADER } from "anybroker/adapter";
import { expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import type { QueueAddress } from "../../../core/address.ts";
import { until } from "../../brokers/until.ts";
import { send } from "../../sqs/opened.ts";
import { headersOf, outgoing } from "../../sqs/outgoing.ts";
import { topology, workQueue } from "../seam-values.ts";
import { describeSQS, taking, useAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeSQS("delays and depth", (broker) => {
  const { options, adapter } = useAdapter(broker);

  async function declared(name: string): Promise<QueueAddress> {
    expect(await adapter().declare(topology({ queues: [workQueue(name)] }))).toEqual([]);
    return { kind: "queue", name };
  }

  test("nothing comes early, and what has no delay passes what has", async () => {
    const of = await declared("timed");
    const { inbox } = await taking(adapter(), of);
    const cameAt = new Map<string, number>();
    const sentAt = Date.now();
    const delays = [2_000, 1, 999, 0];
    const batch = delays.map((delayMs) => outgoing({ id: String(delayMs), delayMs }));
    expect(await send(adapter(), batch, of)).toEqual(delays.map(() => ({ status: "confirmed" })));
    await until("all of them", WAIT_MS, () => {
      for (const { id } of inbox.messages) if (!cameAt.has(id)) cameAt.set(id, Date.now());
      expect(cameAt.size).toBe(delays.length);
    });
    for (const delayMs of delays) expect((cameAt.get(String(delayMs)) ?? 0) - sentAt).toBeGreaterThanOrEqual(delayMs);
    expect([...cameAt.keys()][0]).toBe("0");
  });

  test("the last hop of a long delay waits for what is left of it", async () => {
    const of = await declared("hops");
    const dueAt = Date.now() + 3_000;
    // What is on its way after the first 15 minutes of a longer delay.
    const hop = outgoing({ id: "a", headers: headersOf({ [HEADER.dueAt]: String(dueAt), city: "Bern" }) });
    const handled: { at: number; attempt: number; headers: object }[] = [];
    const shop = createBroker(sqs(options));
    onTestFinished(() => shop.stop());
    const consumer = shop.consume(queue("hops"), (_, { attempt, headers }) => {
      handled.push({ at: Date.now(), attempt, headers: { ...headers } });
    });
    await shop.start();
    expect(await send(adapter(), [hop], of)).toEqual([{ status: "confirmed" }]);
    await until("the message", WAIT_MS, () => expect(handled).toHaveLength(1));
    expect(handled[0]?.at).toBeGreaterThanOrEqual(dueAt);
    // It was no attempt.
    expect(handled[0]).toMatchObject({ attempt: 1, headers: { city: "Bern" } });
    await until("its end", WAIT_MS, () => expect(consumer.status()).toMatchObject({ started: 1, unsettled: 0 }));
  });

  test("depth tells what waits and what is held, and nothing that is delayed", async () => {
    const of = await declared("counted");
    const batch = ["a", "b", "c", "d", "e"].map((id) => outgoing({ id }));
    await send(adapter(), [...batch, outgoing({ id: "late", delayMs: 900_000 })], of);
    await until("five", WAIT_MS, async () => {
      expect(await adapter().depth(of)).toEqual({ ready: 5, unsettled: 0, exact: false });
    });
    const { inbox, receiver } = await taking(adapter(), of, 2);
    await until("two of them", WAIT_MS, () => expect(inbox.messages).toHaveLength(2));
    await until("three and two", WAIT_MS, async () => {
      expect(await adapter().depth(of)).toMatchObject({ ready: 3, unsettled: 2 });
    });
    await receiver.settle(inbox.messages.slice(0, 1).map(({ token }) => ({ token, action: "ack" })));
    await receiver.close();
    await until("four", WAIT_MS, async () => {
      expect(await adapter().depth(of)).toMatchObject({ ready: 4, unsettled: 0 });
    });
    for (const kind of ["dead-letters", "quarantine"] as const) {
      expect(await adapter().depth({ kind, of })).toMatchObject({ ready: 0, unsettled: 0 });
    }
    await expect(adapter().depth({ kind: "queue", name: "nowhere" })).rejects.toMatchObject({ code: "not-found" });
  });
});
