import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SendResult } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import { PublisherEngine } from "../../core/publish/publisher-engine.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { LIMITS, outgoingMessage, RecordingAdapter, settled } from "./recording-adapter.ts";

const ADDRESS = { kind: "queue", name: "work" } as const;
const UNKNOWN: SendResult = { status: "unknown", cause: new Error("no answer") };
const REJECTED: SendResult = { status: "rejected", error: new MessagingError("refused", "no") };

const run = fc.record({
  ordered: fc.boolean(),
  storesInOrder: fc.boolean(),
  limits: fc.record({
    maxBatchMessages: fc.integer({ min: 1, max: 5 }),
    maxBatchBytes: fc.integer({ min: 1, max: 30 }),
    maxBatchesInFlight: fc.integer({ min: 1, max: 3 }),
  }),
  messages: fc.array(
    fc.record({
      key: fc.constantFrom(undefined, "a", "a", "b", "c"),
      size: fc.integer({ min: 1, max: 10 }),
      timeoutMs: fc.constantFrom(100, 1_000, 60_000),
      at: fc.constantFrom(0, 0, 0, 50, 300),
    }),
    { minLength: 1, maxLength: 25 },
  ),
  /** What becomes of each handing over, in turn; once used up, everything is confirmed. */
  fates: fc.array(fc.constantFrom("confirmed", "confirmed", "unknown", "rejected"), { maxLength: 40 }),
  answersAfter: fc.array(fc.nat({ max: 200 }), { minLength: 1, maxLength: 10 }),
});

describe("PublisherEngine and its batchers", () => {
  it("keep within the limits, keep order, send unanswered ones again first, and end every send once", async () => {
    await fc.assert(
      fc.asyncProperty(run, async ({ ordered, storesInOrder, limits, messages, fates, answersAfter }) => {
        const time = new VirtualTime();
        const clock = new ProcessClock(time);
        const adapter = new RecordingAdapter({ ...limits, storesInOrder });
        const stored: string[] = [];
        const answered = new Map<string, string>();
        const inFlight = new Map<string, number>();
        let batches = 0;
        let turns = 0;
        adapter.send = (_to, batch, report) => {
          expect(batch.length).toBeGreaterThan(0);
          expect(batch.length).toBeLessThanOrEqual(limits.maxBatchMessages);
          const bytes = batch.reduce((sum, { size }) => sum + size, 0);
          expect(batch.length === 1 || bytes <= limits.maxBatchBytes).toBe(true);
          expect(++batches).toBeLessThanOrEqual(limits.maxBatchesInFlight);
          let broken = false;
          let left = batch.length;
          for (const [index, { id, key }] of batch.entries()) {
            expect(answered.has(id), `${id} was answered and is handed over`).toBe(false);
            if (ordered && key !== undefined) {
              // With others of its key in another batch, or in this one where a failure does not hold up what follows.
              const most = storesInOrder ? batch.filter((other) => other.key === key).length : 1;
              inFlight.set(key, (inFlight.get(key) ?? 0) + 1);
              expect(inFlight.get(key)).toBeLessThanOrEqual(most);
            }
            const fate = broken ? "unknown" : (fates.shift() ?? "confirmed");
            if (fate !== "confirmed" && storesInOrder) broken = true;
            if (fate === "confirmed") stored.push(id);
            else if (fate === "unknown" && !broken && fates.length % 2 === 0) stored.push(id);
            const result =
              fate === "unknown" ? UNKNOWN : fate === "rejected" ? REJECTED : { status: "confirmed" as const };
            time.schedule(
              () => {
                if (key !== undefined) inFlight.set(key, (inFlight.get(key) ?? 1) - 1);
                if (--left === 0) batches--;
                report(index, result);
                report(index, REJECTED);
              },
              answersAfter[turns++ % answersAfter.length] ?? 0,
            );
          }
        };
        const publishing = new PublisherEngine(adapter, {}, clock, new Prng("batcher"));
        publishing.connected(true);
        const route = publishing.route(ADDRESS, ordered);
        const ends = messages.map(() => 0);
        const inTurn = messages
          .map((message, index) => ({ ...message, index }))
          .sort((one, other) => one.at - other.at);
        for (const { key, size, timeoutMs, at, index } of inTurn) {
          time.schedule(() => {
            const end = (how: string): void => {
              ends[index] = (ends[index] ?? 0) + 1;
              answered.set(`${index}`, how);
              expect(time.now).toBeLessThanOrEqual(at + timeoutMs);
            };
            publishing.send(route, outgoingMessage(`${index}`, { key, size }), timeoutMs).then(
              () => {
                expect(stored).toContain(`${index}`);
                end("confirmed");
              },
              (error: MessagingError) => {
                if (error.code === "timeout" || error.code === "refused") expect(stored).not.toContain(`${index}`);
                else expect(error.code).toBe("unconfirmed");
                end(error.code);
              },
            );
          }, at);
        }
        await time.until(() => false, 200_000);
        expect(ends.every((count) => count === 1)).toBe(true);
        expect([publishing.messages, publishing.bytes, publishing.waiting]).toEqual([0, 0, 0]);
        if (!ordered) return;
        for (const key of ["a", "b", "c"]) {
          const sent = inTurn.filter((message) => message.key === key).map(({ index }) => `${index}`);
          const firsts = [...new Set(stored)].filter((id) => sent.includes(id));
          expect(firsts).toEqual(sent.filter((id) => firsts.includes(id)));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("sends a lone message at once, and gathers while as many batches as allowed are under way", async () => {
    const adapter = new RecordingAdapter({ maxBatchMessages: 100, maxBatchBytes: 1_000, maxBatchesInFlight: 1 });
    adapter.holds = true;
    const publishing = new PublisherEngine(adapter, {}, new ProcessClock(new VirtualTime()), new Prng("batcher"));
    publishing.connected(true);
    const route = publishing.route(ADDRESS, false);
    const send = (id: string) => publishing.send(route, outgoingMessage(id));
    const all = [send("1")];
    await settled();
    expect(adapter.handed.map(({ batch }) => batch.length)).toEqual([1]);
    for (let id = 2; id <= 10; id++) all.push(send(`${id}`));
    await settled();
    expect(adapter.handed).toHaveLength(1);
    adapter.holds = false;
    adapter.handed[0]?.report(0, { status: "confirmed" });
    await Promise.all(all);
    expect(adapter.handed.map(({ batch }) => batch.length)).toEqual([1, 9]);
  });

  for (const ordered of [false, true]) {
    it(`hands over again in order what came back in any${ordered ? ", on an ordered queue" : ""}`, async () => {
      const time = new VirtualTime();
      const adapter = new RecordingAdapter({ ...LIMITS, storesInOrder: true });
      adapter.holds = true;
      const publishing = new PublisherEngine(adapter, {}, new ProcessClock(time), new Prng("batcher"));
      publishing.connected(true);
      const route = publishing.route(ADDRESS, ordered);
      for (const id of ["1", "2", "3"]) publishing.send(route, outgoingMessage(id, { key: "k" }));
      await settled();
      for (const index of [1, 2, 0]) adapter.handed[0]?.report(index, UNKNOWN);
      publishing.send(route, outgoingMessage("4", { key: "k" }));
      await time.until(() => adapter.handed.length === 2, 5_000);
      expect(adapter.handed[1]?.batch.map(({ id }) => id)).toEqual(["1", "2", "3", "4"]);
    });
  }

  it("takes what an adapter throws as unknown, and sends again what has no report", async () => {
    const time = new VirtualTime();
    const adapter = new RecordingAdapter();
    const { send } = adapter;
    let throws = true;
    adapter.send = (to, batch, report) => {
      if (!throws) return send.call(adapter, to, batch, report);
      throws = false;
      report(0, { status: "confirmed" });
      throw new TypeError("of the adapter");
    };
    const publishing = new PublisherEngine(adapter, {}, new ProcessClock(time), new Prng("batcher"));
    publishing.connected(true);
    const ends: unknown[] = [];
    const route = publishing.route(ADDRESS, false);
    for (const id of ["1", "2"]) publishing.send(route, outgoingMessage(id)).then((receipt) => ends.push(receipt));
    expect(await time.until(() => ends.length === 2, 5_000)).toBe(true);
    expect(adapter.handed.map(({ batch }) => batch.map(({ id }) => id))).toEqual([["2"]]);
  });

  it("calls a refusal after an unanswered try unconfirmed, and keeps the refusal as its cause", async () => {
    const { adapter, ends, send, time } = held();
    send("1");
    await settled();
    adapter.handed[0]?.report(0, UNKNOWN);
    await time.until(() => adapter.handed.length === 2, 5_000);
    adapter.handed[1]?.report(0, REJECTED);
    await settled();
    expect(ends).toMatchObject([{ code: "unconfirmed", cause: { code: "refused" } }]);
  });

  it("keeps the code of a refusal, or a deadline, after a try that was never written", async () => {
    const { adapter, ends, publishing, send, time } = held();
    const unsent = { status: "unknown", cause: new Error("no channel"), unsent: true } as const;
    send("1");
    await settled();
    adapter.handed[0]?.report(0, unsent);
    await time.until(() => adapter.handed.length === 2, 5_000);
    adapter.handed[1]?.report(0, REJECTED);
    await settled();
    expect(ends).toMatchObject([{ code: "refused" }]);

    send("2");
    await settled();
    adapter.handed[2]?.report(0, unsent);
    publishing.connected(false);
    await time.until(() => ends.length === 2, 600_000);
    expect(ends[1]).toMatchObject({ code: "timeout" });
  });
});

/** A publisher whose adapter reports only what the test tells it to, and the errors of its sends. */
function held() {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  adapter.holds = true;
  const publishing = new PublisherEngine(adapter, {}, new ProcessClock(time), new Prng("batcher"));
  publishing.connected(true);
  const ends: unknown[] = [];
  const route = publishing.route(ADDRESS, false);
  const send = (id: string): void => {
    publishing.send(route, outgoingMessage(id)).catch((error) => ends.push(error));
  };
  return { time, adapter, publishing, ends, send };
}
