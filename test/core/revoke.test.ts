import { expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import { retry } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

async function consuming(ordered: boolean) {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter, { clock: new ProcessClock(time), random: new Prng("revoke") });
  const ends = new Map<string, (result?: ReturnType<typeof retry>) => void>();
  const options = { concurrency: 1, retry: { delay: { firstMs: 5_000 } } };
  broker.consume(
    queue("work", { ordered }),
    (_, { id }) => new Promise<ReturnType<typeof retry> | undefined>((resolve) => ends.set(id, resolve)),
    options,
  );
  let started = false;
  broker.start().then(() => {
    started = true;
  });
  await time.until(() => started, 60_000);
  const [opened] = adapter.opened;
  if (opened === undefined) throw new Error("nothing was opened");
  return { opened, ends };
}

it("releases what waits and settles what runs when deliveries are asked back", async () => {
  const { opened, ends } = await consuming(false);
  opened.sink.deliver([incoming("runs"), incoming("waits"), incoming("is kept")]);
  opened.sink.revoke(["runs", "waits"]);
  await settled();
  expect(opened.settled).toEqual([{ token: "waits", action: "requeue" }]);
  ends.get("runs")?.();
  await settled();
  expect(opened.settled[1]).toEqual({ token: "runs", action: "ack" });
  expect(ends.has("is kept")).toBe(true);
  expect(ends.has("waits")).toBe(false);
});

it("releases what rests for its next attempt in place, and what would rest", async () => {
  const { opened, ends } = await consuming(true);
  opened.sink.deliver([incoming("rests", { key: "a" }), incoming("will rest", { key: "b" })]);
  ends.get("rests")?.(retry());
  await settled();
  expect(opened.settled).toEqual([]);
  opened.sink.revoke(["rests", "will rest"]);
  await settled();
  expect(opened.settled).toEqual([{ token: "rests", action: "requeue" }]);
  ends.get("will rest")?.(retry());
  await settled();
  expect(opened.settled[1]).toEqual({ token: "will rest", action: "requeue" });
});
