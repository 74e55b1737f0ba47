import { inspect } from "node:util";
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { describe, expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import { deadLetter } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

const CANARY = "canary-9c3e";

/** Refuses everything, and quotes it, as schemas do. */
const refusing: StandardSchemaV1<unknown> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value: unknown) => ({ issues: [{ message: `not ${JSON.stringify(value)}`, path: ["secret"] }] }),
  },
};

describe("bodies and headers", () => {
  it("stand in no error, no event, no status and no dead letter's headers", async () => {
    const events: BrokerEvent[] = [];
    const adapter = new RecordingAdapter();
    const time = new VirtualTime();
    const onEvent = (event: BrokerEvent): unknown => events.push(event);
    const options = { onEvent, clock: new ProcessClock(time), random: new Prng("secrets"), publish: { timeoutMs: 50 } };
    const broker = createBroker(adapter, options);
    const plain = queue<unknown>("plain");
    const strict = queue("strict", { schema: refusing });
    let attempt = 0;
    broker.consume(plain, () => {
      if (attempt++ === 0) throw new Error("it failed");
      return deadLetter("it is not wanted");
    });
    broker.consume(strict, () => {});
    await broker.start();
    const seen: unknown[] = [];
    const collect = async (sending: Promise<unknown>): Promise<void> => {
      await sending.then(
        () => {},
        (error: unknown) => seen.push(error),
      );
    };
    await collect(broker.send(plain, { secret: CANARY, big: 1n }));
    await collect(broker.send(plain, CANARY.repeat(200)));
    await collect(broker.send(plain, {}, { headers: { authorization: `${CANARY}\n` } }));
    await collect(broker.send(plain, {}, { headers: { authorization: CANARY.repeat(20) } }));
    await collect(broker.send(strict, { secret: CANARY }));
    expect(seen).toHaveLength(5);
    const headers = Object.assign(Object.create(null), { authorization: CANARY });
    const body = (text: string) => ({ headers, body: Buffer.from(text) });
    for (const { from, sink } of adapter.opened) {
      if (from.kind !== "queue") continue;
      const texts =
        from.name === "plain" ? ["{}", "{}", `{"a":${CANARY}`, `{"__proto__":"${CANARY}"}`] : [`"${CANARY}"`];
      sink.deliver(texts.map((text, index) => incoming(`${from.name}-${index}`, body(text))));
    }
    await settled();
    const copies = adapter.handed.flatMap(({ batch }) => batch);
    expect(copies.length).toBe(5);
    for (const { headers } of copies) seen.push({ ...headers, authorization: undefined });
    adapter.holds = true;
    const unanswered = collect(broker.send(plain, { secret: CANARY }, { headers: { authorization: CANARY } }));
    await time.until(() => seen.length === 11, 10_000);
    await unanswered;
    adapter.handed.at(-1)?.report(0, { status: "unknown", cause: undefined });
    seen.push(broker.status(), ...events);
    expect(events.length).toBeGreaterThanOrEqual(5);
    expect(inspect(seen, { depth: 20, showHidden: true })).not.toContain(CANARY);
    let stopped = false;
    broker.stop({ timeoutMs: 0 }).then(() => (stopped = true));
    expect(await time.until(() => stopped, time.now + 60_000)).toBe(true);
  });
});
