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
    const { run } = await yard.dead.replay("all");
    const steps = new Map<number, number>();
    const result = await run({
      ramp: { first: 1, factor: 3, observeMs: 300 },
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
    const { run } = await yard.dead.replay("all");
    const result = await run({ rate: 5, ramp: { first: 1, factor: 1_000, observeMs: 100, tolerate: 1 } });
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
    const { plan, run } = await yard.dead.replay("all", { maxReplays: 9 });
    const result = await run({ ramp: RAMP });
    expect(result).toMatchObject({ done: 1, cameBack: 1, stopped: "failed-again" });
    expect(started).toHaveLength(1);
    const [id] = started;
    const { entries } = await yard.dead.list({ filter: "replays = 1" });
    expect(entries).toMatchObject([
      { messageId: id, replays: 1, replayRun: plan.run, reason: "attempts", attempts: 1 },
    ]);
    // Taken up again, it sends what it has not sent, and what came back stays.
    const resumed = await (await yard.dead.resume(plan)).run({ ramp: { ...RAMP, first: 2 } });
    expect(resumed).toMatchObject({ done: 2, stopped: "failed-again" });
    expect(new Set(started).size).toBe(started.length);
    await yard.until("everything to be dead again", async () => (await yard.dead.count()).count === 40);
    // What came back before does not stop it once that is mended.
    broken = false;
    const mended = await (await yard.dead.resume(plan)).run({ ramp: { first: 10, observeMs: 500 } });
    expect(mended).toMatchObject({ done: 37, cameBack: 0, stopped: undefined });
    expect((await yard.dead.list()).entries.map(({ replays }) => replays)).toEqual([1, 1, 1]);
    await yard.until("all of them to be handled", () => started.length === 40);
    expect(new Set(started).size).toBe(40);
    await yard.stop();
  });
}
