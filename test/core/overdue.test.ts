import { expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

it("fails the attempt that runs on a delivery that may be held no longer, and releases what waits", async () => {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  const events: unknown[] = [];
  const broker = createBroker(adapter, {
    clock: new ProcessClock(time),
    random: new Prng("overdue"),
    onEvent: (event) => events.push(event),
  });
  const aborted: unknown[] = [];
  const ends = new Map<string, () => void>();
  const consumer = broker.consume(
    queue("work"),
    (_, { id, signal }) => {
      signal.addEventListener("abort", () => aborted.push(signal.reason));
      return new Promise<void>((resolve) => ends.set(id, resolve));
    },
    { concurrency: 1, timeoutMs: 60_000 },
  );
  let started = false;
  broker.start().then(() => {
    started = true;
  });
  await time.until(() => started, 60_000);
  const [opened] = adapter.opened;
  if (opened === undefined) throw new Error("nothing was opened");
  expect(opened.options).toMatchObject({ handlerTimeoutMs: 60_000 });
  opened.sink.deliver([incoming("runs"), incoming("waits"), incoming("is kept")]);
  await settled();
  const cause = new MessagingError("timeout", "held for as long as the broker allows");
  opened.sink.overdue?.(["runs", "waits"], cause);
  await settled();
  expect(aborted).toEqual([cause]);
  expect(events).toContainEqual(expect.objectContaining({ type: "retried", id: "runs", attempt: 1, error: cause }));
  expect(opened.settled).toContainEqual({ token: "waits", action: "requeue" });
  expect(ends.has("waits")).toBe(false);
  expect(ends.has("is kept")).toBe(true);
  expect(consumer.status()).toMatchObject({ failed: 1, retried: 1, abandoned: 1 });
  ends.get("runs")?.();
  await settled();
  expect(consumer.status()).toMatchObject({ succeeded: 0, abandoned: 0 });
});
