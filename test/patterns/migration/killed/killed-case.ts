import {
  type AdvanceOptions,
  compareBrokers,
  type MigrationControl,
  migrationControl,
  type RollbackOptions,
} from "anybroker/migration";
import { expect, onTestFinished, test } from "vitest";
import type { ProcessAdapter } from "../../../conformance/harness.ts";
import { chooseSeed, seeded } from "../../../conformance/seed.ts";
import { until } from "../../../conformance/until.ts";
import { catalog } from "../catalog.ts";
import type { ProcessPlace } from "../places.ts";
import { Books } from "./books.ts";
import { Company, folderForTest } from "./company.ts";
import { openAdapter, openState, type StatePlace } from "./job.ts";
import { type Evidence, feeds, lost, offences } from "./verdict.ts";

const PATIENCE_MS = 120_000;
/** So many handlings at most until a kill. */
const KILL_WITHIN = 40;
/** So many handlings between two changes. */
const FLOW = 40;

/** From where to where, and where the state is meanwhile. */
export interface KilledPair {
  readonly from: ProcessPlace;
  readonly to: ProcessPlace;
  readonly namePrefix: string;
  readonly state?: () => StatePlace;
}

type Change = (control: MigrationControl) => Promise<{ readonly step: string }>;

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
    timeout: 300_000,
  }, async () => {
    const seed = chooseSeed(process.env.CONFORMANCE_SEED);
    const random = seeded(seed);
    console.log(`${title}, killed at random: seed ${seed}`);
    const desk = await Desk.open(pair);
    const { control, books, company } = desk;

    const accept = compareBrokers(desk.from, desk.to, desk.catalog.destinations).lost;
    await control.advance({ ...PATIENT, accept });
    await company.open();
    await desk.flow();
    await desk.during(random, forth());
    const unjournaled = Math.max(...books.sales.map(({ seq }) => seq));
    // One dies while keys go back, and two others at other changes.
    const others = CHANGES.map((_, index) => index).filter((index) => index !== ROLLBACK);
    const spared = others.sort(() => random() - 0.5).slice(2);
    for (const [index, change] of CHANGES.entries()) {
      await desk.flow();
      if (spared.includes(index)) await change(control);
      else await desk.during(random, change);
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

/** The operator's place. */
class Desk {
  readonly catalog;
  readonly books: Books;
  readonly company: Company;
  readonly control: MigrationControl;
  readonly from;
  readonly to;

  private constructor(
    adapters: readonly [Awaited<ReturnType<typeof openAdapter>>, Awaited<ReturnType<typeof openAdapter>>],
    jobs: { readonly from: ProcessAdapter; readonly to: ProcessAdapter; readonly folder: string },
    namePrefix: string,
    place: StatePlace,
    state: Awaited<ReturnType<typeof openState>>["state"],
  ) {
    [this.from, this.to] = adapters;
    this.catalog = catalog(namePrefix);
    this.books = new Books(jobs.folder);
    onTestFinished(() => this.books.close());
    this.control = migrationControl({ from: this.from, to: this.to, destinations: this.catalog.destinations, state });
    onTestFinished(() => this.control.close());
    this.company = new Company({ ...jobs, namePrefix, state: place });
  }

  static async open({ from, to, namePrefix, state: placeOf }: KilledPair): Promise<Desk> {
    const folder = folderForTest();
    const place = placeOf?.() ?? { kind: "sqlite" };
    const { state, close } = await openState(folder, place);
    onTestFinished(close);
    const jobs = { from: from(), to: to(), folder };
    const adapters = [await openAdapter(jobs.from), await openAdapter(jobs.to)] as const;
    return new Desk(adapters, jobs, namePrefix, place, state);
  }

  /** Waits until some more was handled. */
  async flow(more = FLOW): Promise<void> {
    const begun = this.books.effectCount;
    await until(() => this.books.effectCount >= begun + more, {
      timeoutMs: PATIENCE_MS,
      what: `${more} more handlings`,
      state: () => `${this.books.effectCount - begun} came; ${this.company.failures.join(", ")}`,
    });
  }

  /** Makes a change while a process is killed. */
  async during(random: () => number, change: Change): Promise<void> {
    const killing = this.flow(Math.floor(random() * KILL_WITHIN)).then(() => this.company.killOne(random()));
    await Promise.all([change(this.control), killing]);
  }

  /** What is known when everything that was accepted is handled, and the report says so; or when patience is over. */
  async settled(unjournaled: number): Promise<Evidence> {
    const evidence = async (): Promise<Evidence> => ({
      sales: this.books.sales,
      effects: this.books.effects,
      killed: this.company.killed,
      unjournaled,
      report: await this.control.report({ limit: 10_000 }),
    });
    let last = await evidence();
    await until(
      async () => {
        const { sales, effects } = this.books;
        const isHandled = feeds(this.catalog).every(({ source, destination }) => {
          const theirs = sales.filter((sale) => sale.destination === destination);
          return (
            lost(
              source,
              theirs,
              effects.filter((effect) => effect.source === source),
            ).length === 0
          );
        });
        if (!isHandled) return false;
        last = await evidence();
        return offences(this.catalog, last).length === 0;
      },
      { timeoutMs: PATIENCE_MS / 2, what: "everything to be handled" },
    ).catch(async () => {
      last = await evidence();
    });
    return last;
  }
}
