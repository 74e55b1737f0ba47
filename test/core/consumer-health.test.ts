import { expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import type { Delivery } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

it("says that a consumer stalled, and that it flows again, by a word of the receiver or a delivery", async () => {
  const adapter = new RecordingAdapter();
  const events: BrokerEvent[] = [];
  const broker = createBroker(adapter, { onEvent: (event) => events.push(event) });
  const consumer = broker.consume(queue("work"), () => {});
  await broker.start();
  const sink = adapter.opened[0]?.sink;
  const cause = new MessagingError("unreachable", "nobody is there");

  sink?.stalled(cause);
  expect(consumer.status()).toMatchObject({ state: "stalled", error: cause });
  sink?.flowing();
  expect(consumer.status()).toMatchObject({ state: "running", error: undefined });
  sink?.flowing();
  sink?.stalled(cause);
  sink?.deliver([incoming("one")]);
  expect(consumer.status().state).toBe("running");

  const seen = events.filter(({ type }) => type === "stalled" || type === "flowing").map(({ type }) => type);
  expect(seen).toEqual(["stalled", "flowing", "stalled", "flowing"]);
  await broker.stop();
});

it("widens the prefetch again where it shrank below what one key holds", async () => {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter, { clock: new ProcessClock(time), random: new Prng("hot key") });
  const handler = (_: unknown, { key }: Delivery) => (key === "hot" ? new Promise<void>(() => {}) : undefined);
  broker.consume(queue("work", { ordered: true }), handler, { concurrency: 4, prefetch: { messages: 200 } });
  let started = false;
  broker.start().then(() => {
    started = true;
  });
  await time.until(() => started, 60_000);
  const [opened] = adapter.opened;
  opened?.sink.deliver(Array.from({ length: 50 }, (_, n) => incoming(`hot ${n}`, { key: "hot" })));
  for (let n = 0; n < 5; n++) {
    expect(opened?.prefetch).toBeGreaterThan(50);
    // So slowly that a small prefetch would do for what is handled.
    let isLater = false;
    time.schedule(() => {
      isLater = true;
    }, 1_000);
    await time.until(() => isLater, time.now + 1_000);
    opened?.sink.deliver([incoming(`other ${n}`, { key: `k${n}` })]);
    await settled();
  }
  expect(opened?.prefetch).toBeGreaterThan(50);
  void broker.stop({ timeoutMs: 0 });
});
