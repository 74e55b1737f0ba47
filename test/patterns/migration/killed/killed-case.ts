import {
  type AdvanceOptions,
  compareBrokers,
  type MigrationControl,
  type MigrationStatus,
  type RollbackOptions,
} from "anybroker/migration";
import { expect, test } from "vitest";
import { chooseSeed, seeded } from "../../../../conformance/seed.ts";
import { Desk, type KilledPair, PATIENCE_MS } from "./desk.ts";
import { offences } from "./verdict.ts";

type Change = (control: MigrationControl) => Promise<MigrationStatus>;

const PATIENT = { patienceMs: PATIENCE_MS, emptyForMs: 2_000 } as const;
const forth =
  (options: AdvanceOptions = {}): Change =>
  (control) =>
    control.advance({ ...PATIENT, ...options });
const back =
  (options: RollbackOptions): Change =>
  (control) =>
    control.rollback({ ...PATIENT, ...options });

/** The changes during which processes are killed, from `consuming` on. */
const CHANGES = [
  forth({ share: 50 }),
  back({ share: 20 }),
  forth({ share: 100 }),
  forth(),
  forth(),
  forth(),
] as const satisfies readonly Change[];
const ROLLBACK = 1;

/** A whole migration under load, of a service whose processes are killed (SIGKILL) at random while it goes forth and back. */
export function killedCase(title: string, pair: KilledPair): void {
  test(`${title}, processes are killed: nothing is lost, and every key stays in order`, {
    timeout: 900_000,
  }, async ({ onTestFinished }) => {
    const seed = chooseSeed(process.env.CONFORMANCE_SEED);
    const random = seeded(seed);
    console.log(`${title}, killed at random: seed ${seed}`);
    const desk = await Desk.open(pair, onTestFinished);
    const { control, books, company } = desk;

    const accept = compareBrokers(desk.from, desk.to, desk.catalog.destinations).lost;
    await control.advance({ ...PATIENT, accept });
    await company.open();
    await desk.flow();
    await desk.during(random, forth());
    const unjournaled = desk.lastSale();
    // One dies while keys go back, and two others at other changes.
    const deadly = new Set([ROLLBACK]);
    while (deadly.size < 3) deadly.add(Math.floor(random() * CHANGES.length));
    for (const [index, change] of CHANGES.entries()) {
      await desk.flow();
      if (deadly.has(index)) await desk.during(random, change);
      else await change(control);
    }
    expect(await control.status()).toMatchObject({ step: "retired", share: 100 });
    await desk.flow();
    books.closeShop();
    const evidence = await desk.settled(unjournaled);
    await company.stop();
    expect(company.failures).toEqual([]);
    expect(company.killed.size).toBeGreaterThanOrEqual(3);
    expect(offences(desk.catalog, evidence), `seed ${seed}`).toEqual([]);
  });
}
