import { expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

const work = queue<unknown>("work");
const inOrder = queue<unknown>("in-order", { ordered: true });

it.for([work, inOrder])("a pause gives back what waits only when told to, on $name", async (source) => {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter, { clock: new ProcessClock(time), random: new Prng("pause") });
  const handled: string[] = [];
  let finish = (): void => {};
  const consumer = broker.consume(
    source,
    (_, { id }) => {
      handled.push(id);
      if (id === "fails") throw new Error("rests in place where there is order");
      return new Promise<void>((resolve) => {
        finish = resolve;
      });
    },
    { concurrency: 1 },
  );
  await broker.start();
  const opened = adapter.opened.findLast(({ from }) => from.kind === "queue");
  const deliver = (...ids: string[]) => opened?.sink.deliver(ids.map((id) => incoming(id, { key: id })));
  const released = () => opened?.settled.filter(({ action }) => action === "requeue").map(({ token }) => token);
  deliver("fails", "runs", "waits", "waits too");
  await settled();
  expect(handled).toEqual(["fails", "runs"]);
  consumer.pause();
  await settled();
  expect(released()).toEqual([]);
  consumer.pause({ requeue: true });
  await settled();
  expect(released()).toEqual(source === inOrder ? ["fails", "waits", "waits too"] : ["waits", "waits too"]);
  // What runs goes on, and what comes again is handled after the pause.
  finish();
  await settled();
  expect(opened?.settled).toContainEqual({ token: "runs", action: "ack" });
  expect(consumer.status()).toMatchObject({ unsettled: 0, state: "paused" });
  deliver("waits");
  consumer.resume();
  await settled();
  expect(handled).toEqual(["fails", "runs", "waits"]);
  finish();
  const stopped = broker.stop();
  await time.until(() => broker.status().state === "stopped", 60_000);
  await stopped;
});
