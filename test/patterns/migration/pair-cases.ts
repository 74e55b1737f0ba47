import { isMessagingError } from "anybroker";
import { compareBrokers, memoryMigrationStore } from "anybroker/migration";
import { expect, test, vi } from "vitest";
import { Fleet, load } from "./load.ts";
import { type Pair, World } from "./world.ts";

const breathe = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const PATIENCE_MS = 300_000;

/** A whole migration under load, with services killed at random and a rollback on the way. */
export function pairCase(title: string, pair: () => Pair): void {
  test(`${title}: nothing is lost, and every key stays in order`, { timeout: 1_500_000 }, async ({
    onTestFinished,
  }) => {
    // Longer leases than alone: the machine has brokers to run as well.
    const world = new World(pair(), memoryMigrationStore(), { leaseMs: 6_000, pollMs: 100 }, onTestFinished);
    const { destinations } = world.catalog;
    const fleet = new Fleet(world);
    await fleet.start(2);
    const stop = load(world, () => fleet.alive, 50);
    fleet.terrorize(2_000);
    const control = world.control();
    const patient = { patienceMs: PATIENCE_MS, emptyForMs: 2_000 };
    const { lost } = compareBrokers(world.pair.from(), world.pair.to(), destinations);
    await control.advance({ ...patient, accept: lost });
    await control.advance(patient);
    await control.advance({ ...patient, share: 50 });
    await fleet.killOne();
    await breathe(500);
    await control.rollback({ ...patient, share: 20 });
    // One dies while it holds what is on its way back.
    await Promise.all([fleet.killOne(), control.advance({ ...patient, share: 100 })]);
    await breathe(500);
    await fleet.calm();
    await stop();
    expect(await control.advance(patient)).toMatchObject({ step: "bridged" });
    await vi.waitFor(() => expect(world.isClosed).toBe(true), { timeout: PATIENCE_MS });
    world.expectClosed();
    expect(fleet.kills).toBeGreaterThan(1);
    try {
      await control.advance({ ...patient, patienceMs: PATIENCE_MS });
    } catch (error) {
      if (!isMessagingError(error)) throw error;
      throw new Error(`${error.message} ${JSON.stringify(await control.report(), null, 1)}`);
    }
    expect(await control.advance(patient)).toMatchObject({ step: "retired" });
  });
}
