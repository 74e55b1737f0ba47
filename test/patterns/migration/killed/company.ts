import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../../../../conformance/until.ts";
import { Crew, type Worker } from "../../../../examples/shared/crew.ts";
import { hireProcess } from "../../../../examples/shared/worker-process.ts";
import { CUSTOMERS } from "../load.ts";
import type { Finished } from "../world.ts";
import type { Job } from "./job.ts";

const PROGRAM = new URL("worker.ts", import.meta.url);
const SHOPS = ["north", "south"] as const;
type Shop = (typeof SHOPS)[number];
const PATIENCE_MS = 240_000;

/** A folder for the test, removed after it. */
export function folderForTest(finished: Finished): string {
  const folder = mkdtempSync(join(tmpdir(), "migration-"));
  finished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Two processes that sell to half of the customers each and handle everything; whichever is killed is replaced. */
export class Company {
  /** The processes that were killed. */
  readonly killed = new Set<string>();
  /** Processes that worked, and ended though nobody killed them. */
  readonly failures: string[] = [];
  readonly #crew: Crew<Shop>;
  readonly #living = new Set<Worker>();
  #hired = 0;
  #stopping = false;

  constructor(job: Omit<Job, "worker" | "customers">, finished: Finished) {
    const hire = async (shop: Shop): Promise<Worker> => {
      const worker = `${shop} ${++this.#hired}`;
      const customers = CUSTOMERS.filter((_, index) => index % SHOPS.length === SHOPS.indexOf(shop)).slice(0, 4);
      // One that cannot start, as its broker is busy, says why, and another is started, as by any supervisor.
      const process = await hireProcess(PROGRAM, { ...job, worker, customers });
      this.#living.add(process);
      void process.ended.then(() => {
        this.#living.delete(process);
        if (!this.#stopping && !this.killed.has(worker)) this.failures.push(`${worker} ended by itself`);
      });
      const kill = (): Promise<string> => {
        this.killed.add(worker);
        return process.kill();
      };
      return { ...process, name: worker, kill };
    };
    this.#crew = new Crew(hire, () => {});
    finished(async () => {
      this.#stopping = true;
      // Those of a test that failed do not finish: the shop is open.
      await Promise.all([this.#crew.stop(), ...[...this.#living].map((process) => process.kill())]);
    });
  }

  async open(): Promise<void> {
    await Promise.all(SHOPS.map((shop) => this.#crew.start(shop, 1)));
  }

  /** Kills one (SIGKILL): the first, or the second, by a number from 0 up to, not including, 1. */
  async killOne(random: number): Promise<void> {
    const shop = SHOPS[Math.floor(random * SHOPS.length)] as Shop;
    await until(async () => (await this.#crew.killOne(shop)) !== undefined, {
      timeoutMs: PATIENCE_MS,
      what: `a process of ${shop} that can be killed`,
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#crew.stop();
  }
}
