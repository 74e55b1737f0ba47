import { expect, test, vi } from "vitest";
import { type Instance, World } from "./world.ts";

const CUSTOMERS = ["ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana"];

/** Sells in a loop, at whichever instance lives, until it is told to stop. */
function load(world: World, alive: () => readonly Instance[]): () => Promise<void> {
  let over = false;
  const one = async (customer: string): Promise<void> => {
    while (!over) {
      const at = (): Instance["broker"] => {
        const all = alive();
        return (all[Math.floor(Math.random() * all.length)] as Instance).broker;
      };
      await world.sell(at, customer);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 10));
    }
  };
  const running = CUSTOMERS.map(one);
  return async () => {
    over = true;
    await Promise.all(running);
  };
}

test("moves a service from one broker to the other under load, step by step", { timeout: 60_000 }, async () => {
  const world = new World();
  const instances = [await world.started(), await world.started()];
  const stop = load(world, () => instances);
  const control = world.control();
  expect(await control.advance()).toMatchObject({ step: "prepared", share: 0, pending: undefined });
  expect(await control.advance()).toMatchObject({ step: "consuming" });
  for (const share of [10, 50, 100]) {
    expect(await control.advance({ share })).toMatchObject({ step: "publishing", share });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(await control.advance()).toMatchObject({ step: "bridged", share: 100 });
  await stop();
  expect(await control.advance({ patienceMs: 10_000 })).toMatchObject({ step: "proven" });
  expect(await control.advance()).toMatchObject({ step: "retired" });
  await vi.waitFor(() => expect(world.isClosed).toBe(true), { timeout: 10_000 });
  world.expectClosed();
  const report = await control.report();
  expect(report.verdict).toBe("equal");
  for (const { published, handled, unexpected } of report.sources) {
    expect(published).toBeGreaterThan(0);
    expect(handled).toBe(published);
    expect(unexpected.count).toBe(0);
  }
});
