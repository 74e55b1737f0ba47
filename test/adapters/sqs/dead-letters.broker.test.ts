import { createBroker, queue } from "anybroker";
import { HEADER } from "anybroker/adapter";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import type { QueueAddress } from "../../../core/address.ts";
import { until } from "../../brokers/until.ts";
import { send } from "../../sqs/opened.ts";
import { headersOf, outgoing } from "../../sqs/outgoing.ts";
import { topology, workQueue } from "../seam-values.ts";
import { describeSQS, openAdapter, optionsOf, taking } from "./open-adapter.ts";

const WAIT_MS = 240_000;
const ISO_TIME = /^\d{4}-\d\d-\d\dT/;

describeSQS("dead letters", (broker) => {
  const place = broker.newNamespace();
  const options = optionsOf(broker, place, { maxReceives: 2, visibilityTimeoutMs: 1_000 });
  // fauxqs 2.4.1 moves messages as SQS does, and does not say of them from which queue (DeadLetterQueueSourceArn).
  const saysWhereFrom = broker.name !== "fauxqs";
  afterAll(() => place.remove());

  async function opened() {
    const adapter = await openAdapter(options);
    onTestFinished(() => adapter.close());
    return adapter;
  }

  test.for([false, true])(
    "what kills its consumers comes to them by SQS itself, as crashed (ordered: %s)",
    async (ordered) => {
      const adapter = await opened();
      const of: QueueAddress = { kind: "queue", name: `killer-${ordered}` };
      expect(await adapter.declare(topology({ queues: [workQueue(of.name, { ordered })] }))).toEqual([]);
      const headers = headersOf({ city: "Zürich" });
      const message = outgoing({ id: "poison", key: "k", headers, body: Buffer.from('{"n":1}') });
      const follower = outgoing({ id: "next", key: "k" });
      for (const one of [message, follower]) expect(await send(adapter, [one], of)).toEqual([{ status: "confirmed" }]);
      // It takes them and says nothing any more, as if it had died. With the next one of its key it does the same.
      const { inbox } = await taking(adapter, of);
      const dead = await taking(adapter, { kind: "dead-letters", of });
      await until("both in the dead letters", WAIT_MS, async () => {
        // What SQS moves keeps its group: the first hides the next until it is settled.
        await dead.receiver.settle(dead.inbox.messages.map(({ token }) => ({ token, action: "ack" })));
        expect(dead.inbox.messages.map(({ id }) => id).sort()).toEqual(["next", "poison"]);
      });
      const found = dead.inbox.messages.find(({ id }) => id === "poison");
      expect(found).toMatchObject({ key: "k", contentType: "application/json" });
      expect(Buffer.from(found?.body ?? []).toString()).toBe('{"n":1}');
      expect({ ...found?.headers }).toEqual({
        city: "Zürich",
        ...(saysWhereFrom && {
          [HEADER.deadReason]: "crashed",
          [HEADER.deadOrigin]: `queue "${of.name}"`,
          [HEADER.deadErrorClass]: "MessagingError",
          [HEADER.deadError]: expect.stringContaining("never settled"),
          [HEADER.deadFirstAt]: expect.stringMatching(ISO_TIME),
          [HEADER.deadLastAt]: expect.stringMatching(ISO_TIME),
        }),
      });
      // As often as the queue allows, and each time a death more.
      const deaths = inbox.messages.filter(({ id }) => id === "poison").map(({ redeliveries }) => redeliveries);
      expect(deaths).toEqual([0, 1]);
      expect((await adapter.depth(of)).ready).toBe(0);
    },
  );

  test("a look at them hides none and moves none, however often", async () => {
    const adapter = await opened();
    const of: QueueAddress = { kind: "queue", name: "looked-at" };
    const from = { kind: "dead-letters", of } as const;
    expect(await adapter.declare(topology({ queues: [workQueue(of.name, { ordered: true })] }))).toEqual([]);
    // One key: in the queue itself the first would hide the others.
    const letters = ["a", "b", "c"].map((id) => outgoing({ id, key: "k" }));
    expect(await send(adapter, letters, from)).toEqual(letters.map(() => ({ status: "confirmed" })));
    for (let look = 0; look < 4; look++) {
      const { inbox, receiver } = await taking(adapter, from);
      await until("all of them", WAIT_MS, () => {
        expect(inbox.messages.map(({ id }) => id).sort()).toEqual(["a", "b", "c"]);
      });
      await receiver.close();
    }
  });

  test("what a handler fails with comes to them with its reason, and SQS moves nothing", async () => {
    const orders = queue<{ n: number }>("failing");
    // No lease lapses, however busy the machine is: each attempt is seen once.
    const shop = createBroker(sqs({ ...options, maxReceives: 1_000, visibilityTimeoutMs: 300_000 }));
    onTestFinished(() => shop.stop());
    const retry = { attempts: 3, delay: { firstMs: 1, jitter: 0 } };
    const attempts: number[] = [];
    shop.consume(
      orders,
      (_, { attempt }) => {
        attempts.push(attempt);
        throw new TypeError("no stock");
      },
      { retry },
    );
    await shop.start();
    await shop.send(orders, { n: 1 }, { id: "a" });
    const adapter = await opened();
    const { inbox } = await taking(adapter, { kind: "dead-letters", of: { kind: "queue", name: "failing" } });
    await until("the dead letter", WAIT_MS, () => expect(inbox.messages).toHaveLength(1));
    expect(attempts).toEqual([1, 2, 3]);
    expect({ ...inbox.messages[0]?.headers }).toMatchObject({
      [HEADER.deadReason]: "attempts",
      [HEADER.deadErrorClass]: "TypeError",
      [HEADER.deadError]: "no stock",
      [HEADER.deadAttempts]: "3",
    });
  });
});
