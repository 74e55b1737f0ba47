import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PublisherEngine } from "../../core/publish/publisher-engine.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { outgoingMessage, RecordingAdapter, settled } from "./recording-adapter.ts";

const ADDRESS = { kind: "queue", name: "work" } as const;
const WIDE = { maxBatchMessages: 1, maxBatchBytes: 1_000, maxBatchesInFlight: 1_000 };

describe("the publish buffer", () => {
  it("holds no more than it may, and lets callers in one after another", async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(
        sizes,
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 100 }),
        async (sizes, most, bytes) => {
          const adapter = new RecordingAdapter(WIDE);
          adapter.holds = true;
          const options = { maxMessages: most, maxBytes: bytes };
          const publishing = new PublisherEngine(
            adapter,
            options,
            new ProcessClock(new VirtualTime()),
            new Prng("buffer"),
          );
          publishing.connected(true);
          const route = publishing.route(ADDRESS, false);
          const sends = sizes.map((size, index) => publishing.send(route, outgoingMessage(`${index}`, { size })));
          for (let confirmed = 0; confirmed < sizes.length; confirmed++) {
            await settled();
            expect(publishing.messages).toBeLessThanOrEqual(most);
            expect(publishing.messages === 1 || publishing.bytes <= bytes).toBe(true);
            expect(publishing.messages + publishing.waiting).toBe(sizes.length - confirmed);
            // First come, first served: what was handed over is a beginning of what was sent.
            expect(adapter.handed.map(({ batch }) => batch[0]?.id)).toEqual(
              adapter.handed.map((_, index) => `${index}`),
            );
            adapter.handed[confirmed]?.report(0, { status: "confirmed" });
          }
          await Promise.all(sends);
          expect([publishing.messages, publishing.bytes, publishing.waiting]).toEqual([0, 0, 0]);
        },
      ),
      { numRuns: 100 },
    );
  });

  it("fails at once when it is full and told to, and hands nothing of it over", async () => {
    const adapter = new RecordingAdapter(WIDE);
    adapter.holds = true;
    const clock = new ProcessClock(new VirtualTime());
    const publishing = new PublisherEngine(adapter, { maxMessages: 2, whenFull: "fail" }, clock, new Prng("buffer"));
    publishing.connected(true);
    const route = publishing.route(ADDRESS, false);
    publishing.send(route, outgoingMessage("1"));
    publishing.send(route, outgoingMessage("2"));
    await expect(publishing.send(route, outgoingMessage("3"))).rejects.toMatchObject({ code: "overloaded" });
    expect(adapter.handed.map(({ batch }) => batch[0]?.id)).toEqual(["1", "2"]);
    adapter.handed[0]?.report(0, { status: "confirmed" });
    publishing.send(route, outgoingMessage("4"));
    await settled();
    expect(adapter.handed).toHaveLength(3);
  });

  it.each([{ maxMessages: 90 }, { maxBytes: 900 }])(
    "leaves room to others, whatever one address takes (%o)",
    async (limits) => {
      const time = new VirtualTime();
      const adapter = new RecordingAdapter(WIDE);
      adapter.holds = true;
      const publishing = new PublisherEngine(adapter, limits, new ProcessClock(time), new Prng("buffer"));
      publishing.connected(true);
      const [silent, other] = ["silent", "other"].map((name) => publishing.route({ kind: "queue", name }, false));
      if (silent === undefined || other === undefined) throw new Error("two routes");
      const message = (id: string) => outgoingMessage(id, { size: 10 });
      const unanswered = Array.from({ length: 100 }, (_, index) =>
        publishing.send(silent, message(`s${index}`), 100).catch(({ code }) => code),
      );
      await settled();
      expect([publishing.messages, publishing.waiting]).toEqual([80, 20]);
      // Past the deadline of the callers as well: the adapter has them still.
      for (const until of [50, 150]) {
        for (let round = 0; round < 30; round++) {
          const id = `o${until}-${round}`;
          const sent = publishing.send(other, message(id), 1_000);
          await settled();
          const { report } = adapter.handed.at(-1) as (typeof adapter.handed)[number];
          expect(adapter.handed.at(-1)?.batch[0]?.id).toBe(id);
          report(0, { status: "confirmed" });
          await sent;
        }
        await time.until(() => time.now >= until, 1_000);
      }
      const codes = await Promise.all(unanswered);
      expect([codes.filter((code) => code === "unconfirmed").length, publishing.waiting]).toEqual([80, 0]);
      // What is reported at last makes room.
      for (const { batch, report } of [...adapter.handed])
        if (batch[0]?.id.startsWith("s")) report(0, { status: "unknown", cause: undefined });
      await settled();
      expect([publishing.messages, publishing.bytes]).toEqual([0, 0]);
    },
  );

  it("is all for a destination that is the only one, dead letters beside it or not", async () => {
    const adapter = new RecordingAdapter(WIDE);
    adapter.holds = true;
    const clock = new ProcessClock(new VirtualTime());
    const publishing = new PublisherEngine(adapter, { maxMessages: 20 }, clock, new Prng("buffer"));
    publishing.connected(true);
    publishing.route({ kind: "dead-letters", of: ADDRESS }, false);
    const route = publishing.route(ADDRESS, false);
    for (let count = 0; count < 30; count++) void publishing.send(route, outgoingMessage(`${count}`));
    await settled();
    expect([publishing.messages, publishing.waiting]).toEqual([20, 10]);
  });

  it("lets those in that wait for room by turns of their addresses, and none pass one that is too large for now", async () => {
    const adapter = new RecordingAdapter(WIDE);
    adapter.holds = true;
    const clock = new ProcessClock(new VirtualTime());
    const publishing = new PublisherEngine(adapter, { maxMessages: 3, maxBytes: 100 }, clock, new Prng("buffer"));
    publishing.connected(true);
    const [one, two] = ["one", "two"].map((name) => publishing.route({ kind: "queue", name }, false));
    if (one === undefined || two === undefined) throw new Error("two routes");
    const send = (route: typeof one, id: string, size: number) =>
      void publishing.send(route, outgoingMessage(id, { size }));
    send(one, "1", 30);
    send(two, "2", 30);
    send(one, "large", 55);
    send(two, "3", 10);
    send(two, "4", 10);
    const handed = () => adapter.handed.map(({ batch }) => batch[0]?.id);
    await settled();
    expect(handed()).toEqual(["1", "2"]);
    adapter.handed[0]?.report(0, { status: "confirmed" });
    await settled();
    expect(handed()).toEqual(["1", "2", "large", "3"]);
    adapter.handed[1]?.report(0, { status: "confirmed" });
    await settled();
    expect(handed()).toEqual(["1", "2", "large", "3", "4"]);
  });

  it("times out what waits for room, and counts what the adapter still has", async () => {
    const time = new VirtualTime();
    const adapter = new RecordingAdapter(WIDE);
    adapter.holds = true;
    const publishing = new PublisherEngine(adapter, { maxMessages: 1 }, new ProcessClock(time), new Prng("buffer"));
    publishing.connected(true);
    const route = publishing.route(ADDRESS, false);
    const codes: string[] = [];
    for (const id of ["1", "2"]) publishing.send(route, outgoingMessage(id), 100).catch(({ code }) => codes.push(code));
    await time.until(() => codes.length === 2, 1_000);
    expect(codes).toEqual(["unconfirmed", "timeout"]);
    expect([publishing.messages, publishing.waiting]).toEqual([1, 0]);
    adapter.handed[0]?.report(0, { status: "unknown", cause: undefined });
    expect(publishing.messages).toBe(0);
    await settled();
    expect(adapter.handed).toHaveLength(1);
  });

  const KEEPERS = [
    { what: "in the backlog", ordered: false, maxMessages: 10_000 },
    { what: "in the backlog of an ordered queue", ordered: true, maxMessages: 10_000 },
    { what: "among the callers that wait for room", ordered: false, maxMessages: 1 },
  ];
  for (const { what, ordered, maxMessages } of KEEPERS) {
    it(`keeps nothing of what gave up behind one that waits long, ${what}`, async () => {
      const time = new VirtualTime();
      const clock = new ProcessClock(time);
      const publishing = new PublisherEngine(new RecordingAdapter(), { maxMessages }, clock, new Prng("buffer"));
      const route = publishing.route(ADDRESS, ordered);
      publishing.send(route, outgoingMessage("before", { key: "k" }), 1_000_000).catch(() => {});
      publishing.send(route, outgoingMessage("first", { key: "k" }), 1_000_000).catch(() => {});
      const kept: WeakRef<object>[] = [];
      for (let round = 0; round < 20; round++) {
        let left = 100;
        for (let count = 0; count < 100; count++) {
          const message = outgoingMessage(`${round}.${count}`, { key: "k" });
          kept.push(new WeakRef(message));
          publishing.send(route, message, 10).catch(() => left--);
        }
        await time.until(() => left === 0, time.now + 100);
      }
      const { gc } = globalThis as { gc?: () => void };
      const collect = gc ?? (await collector());
      await settled();
      collect();
      expect(kept.filter((reference) => reference.deref() !== undefined).length).toBeLessThan(300);
      expect(publishing.messages + publishing.waiting).toBe(2);
    });
  }

  it("opens its gate after a stop in a blocked state", async () => {
    const adapter = new RecordingAdapter();
    const publishing = new PublisherEngine(adapter, {}, new ProcessClock(new VirtualTime()), new Prng("buffer"));
    publishing.connected(true);
    publishing.blocked(true);
    publishing.close("it was stopped");
    publishing.open(true);
    await publishing.send(publishing.route(ADDRESS, false), outgoingMessage("1"));
    expect(adapter.handed).toHaveLength(1);
  });

  it("tells routes apart that read alike", () => {
    const publishing = new PublisherEngine(
      new RecordingAdapter(),
      {},
      new ProcessClock(new VirtualTime()),
      new Prng("buffer"),
    );
    const one = { kind: "subscription", topic: "a", name: "b.c" } as const;
    const other = { kind: "subscription", topic: "a.b", name: "c" } as const;
    const queue = { kind: "queue", name: "a.b.c" } as const;
    const routes = [one, other, queue].flatMap((of) => [
      publishing.route(of, false),
      publishing.route({ kind: "dead-letters", of }, false),
    ]);
    expect(new Set(routes).size).toBe(6);
    expect(publishing.route({ kind: "dead-letters", of: { ...one } }, false)).toBe(routes[1]);
  });
});

/** The collector of garbage, without a flag on the command line. */
async function collector(): Promise<() => void> {
  const { setFlagsFromString } = await import("node:v8");
  const { runInNewContext } = await import("node:vm");
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}
