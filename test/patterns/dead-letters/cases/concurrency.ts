import { expect, test } from "vitest";
import { burials, Graveyard, type Grounds } from "../graveyard.ts";

/** Two runs at once. */
export function concurrencyCases(grounds: () => Grounds): void {
  test("nothing is sent twice by two runs of two processes with one selection", async () => {
    const one = await Graveyard.open(grounds());
    const other = await Graveyard.open(grounds(), { orders: one.orders });
    const all = burials(60);
    await one.bury(all);
    const first = await one.dead.replay("all", { rate: 100 });
    const second = await other.dead.replay("all", { rate: 100 });
    expect([first.plan.count, second.plan.count]).toEqual([60, 60]);
    const results = await Promise.all([first.run(), second.run()]);
    for (const { failed, stopped } of results) expect([failed, stopped]).toEqual([0, undefined]);
    expect(results.reduce((sum, { done }) => sum + done, 0)).toBe(60);
    const sent = [...one.sentBack(), ...other.sentBack()].map(({ id }) => id).sort();
    expect(sent).toEqual(all.map(({ id }) => id));
    expect((await one.dead.list()).entries).toEqual([]);
    await Promise.all([one.stop(), other.stop()]);
  });

  test("a run that is under way is not begun a second time", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(10));
    const { run } = await yard.dead.replay("all", { rate: 100 });
    const running = run();
    await expect(run()).rejects.toMatchObject({ code: "conflict" });
    await expect(running).resolves.toMatchObject({ done: 10 });
    await yard.stop();
  });
}
