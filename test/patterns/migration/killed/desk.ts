import type { Adapter } from "anybroker";
import { type MigrationControl, type MigrationStatus, migrationControl } from "anybroker/migration";
import { until } from "../../../../conformance/until.ts";
import { type Catalog, catalog } from "../catalog.ts";
import type { ProcessPlace } from "../places.ts";
import type { Finished } from "../world.ts";
import { Books } from "./books.ts";
import { Company, folderForTest } from "./company.ts";
import { openAdapter, openState, type StatePlace } from "./job.ts";
import { type Evidence, feeds, lost, offences } from "./verdict.ts";

/** How long the operator waits for anything, in milliseconds. */
export const PATIENCE_MS = 240_000;
/** So many handlings at most until a kill. */
const KILL_WITHIN = 40;
/** So many handlings between two changes. */
const FLOW = 40;

/** From where to where, and where the state is meanwhile. */
export interface KilledPair {
  readonly from: ProcessPlace;
  readonly to: ProcessPlace;
  readonly namePrefix: string;
  /** Default: SQLite. */
  readonly state?: () => StatePlace;
}

interface DeskParts {
  readonly from: Adapter;
  readonly to: Adapter;
  readonly catalog: Catalog;
  readonly books: Books;
  readonly company: Company;
  readonly control: MigrationControl;
}

/** The operator's place: what drives the migration, and what happens to the service meanwhile. */
export class Desk {
  readonly from: Adapter;
  readonly to: Adapter;
  readonly catalog: Catalog;
  readonly books: Books;
  readonly company: Company;
  readonly control: MigrationControl;

  private constructor({ from, to, catalog, books, company, control }: DeskParts) {
    this.from = from;
    this.to = to;
    this.catalog = catalog;
    this.books = books;
    this.company = company;
    this.control = control;
  }

  static async open(pair: KilledPair, finished: Finished): Promise<Desk> {
    const { namePrefix } = pair;
    const folder = folderForTest(finished);
    const place: StatePlace = pair.state?.() ?? { kind: "sqlite" };
    const { state, close } = await openState(folder, place);
    finished(close);
    const jobs = { from: pair.from(), to: pair.to(), namePrefix, folder, state: place };
    const [from, to] = [await openAdapter(jobs.from), await openAdapter(jobs.to)];
    const moving = catalog(namePrefix);
    const books = new Books(folder);
    finished(() => books.close());
    const control = migrationControl({ from, to, destinations: moving.destinations, state });
    finished(() => control.close());
    return new Desk({ from, to, catalog: moving, books, control, company: new Company(jobs, finished) });
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
  async during(random: () => number, change: (control: MigrationControl) => Promise<MigrationStatus>): Promise<void> {
    const killing = this.flow(Math.floor(random() * KILL_WITHIN)).then(() => this.company.killOne(random()));
    await Promise.all([change(this.control), killing]);
  }

  /** The last sale that was begun. */
  lastSale(): number {
    return Math.max(...this.books.sales.map(({ seq }) => seq));
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
