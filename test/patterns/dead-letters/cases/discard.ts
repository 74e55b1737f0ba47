import { type ArchivedEntry, memoryArchive } from "anybroker/dead-letters";
import { expect, test } from "vitest";
import { HEADER } from "../../../../core/system-headers.ts";
import { burials, Graveyard, type Grounds } from "../graveyard.ts";

/** `discard`. */
export function discardCases(grounds: () => Grounds): void {
  test("when they are in the archive, and only those that were selected", async () => {
    const yard = await Graveyard.open(grounds(), { dead: { by: "ann" } });
    await yard.bury([...burials(3, "a", { headers: { tenant: "acme" } }), ...burials(2, "b")]);
    const archive = memoryArchive();
    const { plan, run } = await yard.dead.discard("header.tenant = acme", { archive });
    expect(plan).toMatchObject({ action: "discard", count: 3, to: null });
    expect(archive.entries).toEqual([]);
    await expect(run()).resolves.toMatchObject({ action: "discard", done: 3, stopped: undefined });
    expect(archive.entries.map(({ messageId }) => messageId).sort()).toEqual(["a-00000", "a-00001", "a-00002"]);
    expect(archive.entries[0]).toMatchObject({
      body: expect.stringMatching(/^\{"n":\d\}$/),
      run: plan.run,
      by: "ann",
      archivedAt: expect.any(String),
      headers: { tenant: "acme" },
      systemHeaders: { [HEADER.deadReason]: "attempts" },
    });
    expect((await yard.dead.list()).entries.map(({ messageId }) => messageId)).toEqual(["b-00000", "b-00001"]);
    expect(yard.sentBack()).toEqual([]);
    await yard.stop();
  });

  test("each failure of one message by itself", async () => {
    const yard = await Graveyard.open(grounds());
    const [first] = burials(1);
    if (first === undefined) throw new Error("nothing to bury");
    await yard.bury([first]);
    await yard.bury([{ ...first, error: "another failure", failedAt: Date.UTC(2026, 0, 2) }]);
    const existing = (await yard.dead.list()).entries;
    const archive = memoryArchive();
    const { run } = await yard.dead.discard("all", { archive });
    await expect(run()).resolves.toMatchObject({ done: existing.length, stopped: undefined });
    const errors = (all: readonly { readonly error: string | null }[]) => all.map(({ error }) => error).sort();
    expect(errors(archive.entries)).toEqual(errors(existing));
    expect((await yard.dead.list()).entries).toEqual([]);
    await yard.stop();
  });

  test("and not when the archive fails; the next run does the rest", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(5));
    const kept: ArchivedEntry[] = [];
    let full = true;
    const archive = {
      append: async (entries: readonly ArchivedEntry[]): Promise<void> => {
        if (full) throw new Error("the disk is full");
        kept.push(...entries);
      },
    };
    const { plan, run } = await yard.dead.discard("all", { archive });
    const stopped = await run();
    expect(stopped).toMatchObject({ done: 0, stopped: "error", error: { code: "unconfirmed" } });
    await yard.until("all to stand as before", async () => (await yard.dead.count()).count === 5);
    full = false;
    await expect(yard.dead.resume(plan)).rejects.toMatchObject({ code: "invalid" });
    const resumed = await yard.dead.resume(JSON.parse(JSON.stringify(plan)) as typeof plan, { archive });
    await expect(resumed.run()).resolves.toMatchObject({ done: 5, stopped: undefined });
    expect(kept).toHaveLength(5);
    expect((await yard.dead.list()).entries).toEqual([]);
    await yard.stop();
  });
}
