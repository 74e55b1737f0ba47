import { expect, test } from "vitest";
import { burials, Graveyard, type Grounds } from "../graveyard.ts";

/** As long as it may take: it ends as soon as one comes back. */
const RAMP = { observeMs: 120_000 };

/** `replay` with its ramp. */
export function rampCases(grounds: () => Grounds): void {
  test("all of them, in steps, if none comes back", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(13));
    const handled = new Set<string>();
    yard.broker.consume(yard.orders, (_, { id }) => void handled.add(id));
    const { run } = await yard.dead.replay("all", { ramp: { first: 1, factor: 3, observeMs: 300 } });
    const steps = new Map<number, number>();
    const result = await run({
      onProgress: ({ step, done }) => void steps.set(step, done),
    });
    expect(result).toMatchObject({ done: 13, cameBack: 0, stopped: undefined });
    expect([...steps]).toEqual([
      [1, 1],
      [2, 4],
      [3, 13],
    ]);
    await yard.until("all to be handled", () => handled.size === 13);
    await yard.stop();
  });

  test("waits behind a backlog until what it sent is handled", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(12));
    for (let n = 0; n < 6; n++) await yard.broker.send(yard.orders, { n }, { id: `waits-${n}` });
    const waited = new Set<string>();
    const sent: number[] = [];
    const { run } = await yard.dead.replay("all", { ramp: { first: 2, factor: 100, observeMs: 200 } });
    let slowly: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      slowly = resolve;
    });
    yard.broker.consume(
      yard.orders,
      async (_, { id }) => {
        if (id === "waits-0") await released;
        if (id.startsWith("m-")) throw new Error("still broken");
      },
      { retry: { attempts: 1 }, concurrency: 1 },
    );
    const result = await run({
      onProgress: ({ waitsFor, done }) => {
        if (waitsFor === null) return;
        waited.add(waitsFor);
        sent.push(done);
        // Long after a watch of 200 ms would have been over.
        if (waitsFor === "backlog") setTimeout(slowly, 1_000);
      },
    });
    expect(result).toMatchObject({ done: 2, stopped: "failed-again" });
    expect(waited).toContain("backlog");
    expect(new Set(sent)).toEqual(new Set([2]));
    await yard.stop();
  });

  test("sends no more where nobody handles what it sent", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(8));
    const { run } = await yard.dead.replay("all", { ramp: { observeMs: 100, backlogMs: 700 } });
    await expect(run()).resolves.toMatchObject({ done: 1, cameBack: 0, stopped: "unhandled" });
    await yard.stop();
  });

  test("keeps its pace in the plan, and tells what came back behind the last step too", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(20));
    yard.broker.consume(
      yard.orders,
      () => {
        throw new Error("still broken");
      },
      { retry: { attempts: 1 } },
    );
    const ramp = { first: 2, factor: 2, observeMs: 120_000, backlogMs: 120_000, tolerate: 1 };
    const { plan, run } = await yard.dead.replay("all", { rate: 50, ramp, maxReplays: 9 });
    expect(plan).toMatchObject({ rate: 50, ramp });
    await expect(run()).resolves.toMatchObject({ done: 2, cameBack: 2, stopped: "failed-again" });
    const kept = JSON.parse(JSON.stringify(plan)) as typeof plan;
    const resumed = await yard.dead.resume(kept);
    expect(resumed.plan).toMatchObject({ rate: 50, ramp });
    await expect(resumed.run()).resolves.toMatchObject({ done: 2, stopped: "failed-again", missingWhy: {} });
    // What is said again counts from now on, and what is not said stays.
    const bolder = await yard.dead.resume(kept, { ramp: { first: 100, tolerate: 100, observeMs: 2_000 }, rate: 1_000 });
    expect(bolder.plan).toMatchObject({ rate: 1_000, ramp: { ...ramp, first: 100, tolerate: 100, observeMs: 2_000 } });
    const last = await bolder.run();
    expect(last).toMatchObject({ done: 16, stopped: undefined });
    expect(last.cameBack).toBeGreaterThan(0);
    await yard.stop();
  });

  test("no more, when they come back in the midst of a step", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(400));
    let handled = 0;
    yard.broker.consume(
      yard.orders,
      () => {
        if (++handled > 5) throw new Error("broken again");
      },
      { retry: { attempts: 1 } },
    );
    const ramp = { first: 1, factor: 1_000, observeMs: 100, tolerate: 1 };
    const { run } = await yard.dead.replay("all", { rate: 5, ramp });
    const result = await run();
    expect(result.stopped).toBe("failed-again");
    expect(result.cameBack).toBeGreaterThan(1);
    expect(result.done).toBeLessThan(400);
    await yard.stop();
  });

  test("few, if they come back; and those never again in this run", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(40));
    const started: string[] = [];
    let broken = true;
    yard.broker.consume(
      yard.orders,
      (_, { id }) => {
        started.push(id);
        if (broken) throw new Error("still broken");
      },
      { retry: { attempts: 1 } },
    );
    const { plan, run } = await yard.dead.replay("all", { maxReplays: 9, ramp: RAMP });
    const result = await run();
    expect(result).toMatchObject({ done: 1, cameBack: 1, stopped: "failed-again" });
    expect(started).toHaveLength(1);
    const [id] = started;
    const { entries } = await yard.dead.list({ filter: "replays = 1" });
    expect(entries).toMatchObject([
      { messageId: id, replays: 1, replayRun: plan.run, reason: "attempts", attempts: 1 },
    ]);
    // Taken up again, it sends what it has not sent, and what came back stays.
    const resumed = await (await yard.dead.resume(plan, { ramp: { first: 2 } })).run();
    expect(resumed).toMatchObject({ done: 2, stopped: "failed-again" });
    expect(new Set(started).size).toBe(started.length);
    await yard.until("everything to be dead again", async () => (await yard.dead.count()).count === 40);
    // What came back before does not stop it once that is mended.
    broken = false;
    const mended = await (await yard.dead.resume(plan, { ramp: { first: 10, observeMs: 500 } })).run();
    expect(mended).toMatchObject({ done: 37, cameBack: 0, stopped: undefined });
    expect((await yard.dead.list()).entries.map(({ replays }) => replays)).toEqual([1, 1, 1]);
    await yard.until("all of them to be handled", () => started.length === 40);
    expect(new Set(started).size).toBe(40);
    await yard.stop();
  });
}
