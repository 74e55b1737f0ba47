import { type JournalLine, memoryJournal, runReport } from "anybroker/dead-letters";
import { expect, test } from "vitest";
import { MessagingError } from "../../../../core/errors.ts";
import { burials, Graveyard, type Grounds } from "../graveyard.ts";

const about = (lines: readonly JournalLine[], what: JournalLine["what"]): readonly JournalLine[] =>
  lines.filter((line) => line.what === what);

/** What is written down of a run, and what is said of what was not there any more. */
export function journalCases(grounds: () => Grounds): void {
  test("a line for each message, who and when, and what became of it", async () => {
    const yard = await Graveyard.open(grounds(), { dead: { by: "ann" } });
    await yard.bury([...burials(3, "a"), ...burials(1, "bad", { error: "quite another" })]);
    yard.broker.consume(
      yard.orders,
      ({ n }) => {
        if (n === 1) throw new RangeError("broken in another way");
      },
      { retry: { attempts: 1 } },
    );
    const journal = memoryJournal();
    const { plan, run } = await yard.dead.replay("all", {
      edit: (body, { messageId }) => {
        if (messageId === "bad-00000") throw new Error("no idea");
        return messageId === "a-00002" ? undefined : body;
      },
      ramp: { first: 100, observeMs: 120_000 },
    });
    expect(plan).toMatchObject({ by: "ann", groups: [{ count: 3 }, { count: 1, errorClass: "TypeError" }] });
    const result = await run({ journal });
    expect(result).toMatchObject({ done: 2, left: 1, failed: 1, cameBack: 1, stopped: "failed-again" });
    const { lines } = journal;
    expect(
      lines.every((line) => line.run === plan.run && line.by === "ann" && !Number.isNaN(Date.parse(line.at))),
    ).toBe(true);
    expect(lines[0]?.what).toBe("begun");
    expect(lines.at(-1)?.what).toBe("ended");
    // Edited copies have ids of their own, and the one that fails is told by that of its message.
    expect(about(lines, "came-back")).toMatchObject([{ messageId: "a-00001", detail: expect.any(String) }]);
    const ids = (what: JournalLine["what"]) => about(lines, what).map(({ messageId }) => messageId);
    expect(ids("edited").toSorted()).toEqual(["a-00000", "a-00001"]);
    expect([ids("left"), ids("failed")]).toEqual([["a-00002"], ["bad-00000"]]);
    expect(about(lines, "edited").map(({ group }) => group)).toEqual([plan.groups[0]?.group, plan.groups[0]?.group]);
    const report = runReport(plan, lines);
    expect(report).toMatchObject({
      count: 4,
      open: 0,
      edited: "function",
      plannedBy: "ann",
      outcomes: { edited: 2, left: 1, failed: 1, replayed: 0 },
      parts: [{ by: "ann", stopped: "failed-again" }],
    });
    expect(report.groups.map(({ planned, edited }) => [planned, edited])).toEqual([
      [3, 2],
      [1, 0],
    ]);
    await yard.stop();
  });

  test("what came back, and which were not there any more and why", async () => {
    const yard = await Graveyard.open(grounds(), { dead: { by: "ann" } });
    await yard.bury(burials(6));
    const journal = memoryJournal();
    const { plan } = await yard.dead.replay("all", { maxReplays: 9 });
    // Somebody else removes the first, and sends the second back, which fails again.
    const discard = await yard.dead.discard("id = m-00000", { archive: { append: async () => {} } });
    await discard.run();
    await yard.broker.stop({ timeoutMs: 5_000 });

    const next = await Graveyard.open(grounds(), { orders: yard.orders, dead: { by: "bob" } });
    next.broker.consume(
      next.orders,
      () => {
        throw new Error("still broken");
      },
      { retry: { attempts: 1 } },
    );
    await (await next.dead.replay("id = m-00001")).run();
    await next.until("the second to be dead again", async () => {
      const { entries } = await next.dead.list({ filter: "replays = 1" });
      return entries.length === 1;
    });
    const first = await next.dead.resume(plan, { ramp: { first: 2, factor: 100, observeMs: 120_000 } });
    const stopped = await first.run({ journal });
    expect(stopped).toMatchObject({ done: 2, stopped: "failed-again" });
    await next.until("all to be dead again", async () => (await next.dead.count()).count === 5);
    const rest = await (await next.dead.resume(plan, { ramp: false })).run({ journal });
    expect(rest).toMatchObject({ done: 2, missing: 4, stopped: undefined });
    // The two that the first part sent are dead again by now, and so is the one that somebody else sent.
    expect(rest.missingWhy).toMatchObject({ handled: 2, "dead-again": 1 });
    const own = rest.missed.filter(({ why }) => why === "handled");
    expect(own.map(({ now }) => now)).toEqual([expect.any(String), expect.any(String)]);
    const why = new Map(rest.missed.map((missed) => [missed.messageId, missed]));
    expect(why.get("m-00001")).toMatchObject({ why: "dead-again", now: expect.stringMatching(/^[\w-]{22}$/) });
    expect(["removed", "unknown"]).toContain(why.get("m-00000")?.why);
    const report = runReport(plan, journal.lines);
    expect(report).toMatchObject({
      outcomes: { replayed: 4, missing: 2 },
      open: 0,
      parts: [
        { by: "bob", ramp: { first: 2, factor: 100 } },
        { by: "bob", ramp: null },
      ],
    });
    expect(report.outcomes["came-back"]).toBeGreaterThanOrEqual(2);
    await next.stop();
  });

  test("what an earlier part of the run did", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(4));
    const journal = memoryJournal();
    const { plan } = await yard.dead.replay("all");
    const controller = new AbortController();
    const begun = await yard.dead.resume(plan, { rate: 3 });
    const cancelled = await begun.run({ journal, signal: controller.signal, onProgress: () => controller.abort() });
    expect(cancelled.done).toBeGreaterThan(0);
    const rest = await (await yard.dead.resume(plan)).run({ journal });
    expect(rest).toMatchObject({ missing: cancelled.done, missingWhy: { handled: cancelled.done, removed: 0 } });
    expect(about(journal.lines, "replayed")).toHaveLength(4);
    expect(about(journal.lines, "missing")).toHaveLength(0);
    await yard.stop();
  });

  test("nothing is done where the journal takes nothing; and no more where it takes no more", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(6));
    let most = 0;
    const kept = memoryJournal();
    const journal = {
      read: () => kept.read(),
      append: async (lines: readonly JournalLine[]) => {
        if (most-- <= 0) throw new MessagingError("refused", "the disk is full");
        await kept.append(lines);
      },
    };
    // So slow that the journal has refused a line before all are on their way, however busy the machine is.
    const { run } = await yard.dead.replay("all", { rate: 1 });
    await expect(run({ journal })).rejects.toMatchObject({ message: "the disk is full" });
    expect(yard.sentBack()).toEqual([]);
    most = 2;
    const result = await run({ journal });
    expect(result).toMatchObject({ stopped: "error", error: { message: "the disk is full" } });
    expect(result.done).toBeLessThan(6);
    // What was sent is removed, and not sent again.
    expect(yard.sentBack()).toHaveLength(result.done);
    await yard.stop();
  });
}
