import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CaseContext } from "../context.ts";
import type { ProcessAdapter } from "../harness.ts";
import { LogReader } from "./log.ts";
import type { ConsumeOrder, PublishOrder, WorkerReport } from "./orders.ts";

const EXTENSION = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const PROGRAM = fileURLToPath(new URL(`worker${EXTENSION}`, import.meta.url));

type ConsumeWish = Pick<ConsumeOrder, "queue"> & Partial<Omit<ConsumeOrder, "type" | "adapter" | "log">>;
type PublishWish = Omit<PublishOrder, "type" | "adapter" | "log">;

/** A worker in a process of its own, which a case may kill. What it reports goes into the case's ledger. */
export class WorkerProcess {
  /** Attempts of handlers started, per message, as the handlers saw them. */
  readonly attempts = new Map<string, number[]>();
  /** Ids whose ack the broker took. */
  readonly acked = new Set<string>();
  /** Ids that the publisher was told are stored. */
  readonly confirmed = new Set<string>();
  starts = 0;
  effects = 0;
  readonly #child: ChildProcess;
  readonly #log: LogReader;
  readonly #exited: Promise<unknown>;
  readonly #context: CaseContext;
  readonly #source: string;
  #ready = false;
  #running = true;
  #errors = "";

  private constructor(context: CaseContext, source: string, log: string) {
    this.#context = context;
    this.#source = source;
    this.#log = new LogReader(log);
    this.#child = fork(PROGRAM, { execArgv: [], stdio: ["ignore", "ignore", "pipe", "ipc"] });
    this.#child.stderr?.on("data", (chunk) => {
      this.#errors += String(chunk);
    });
    this.#exited = once(this.#child, "exit").then(() => {
      this.#running = false;
    });
  }

  /** Starts a worker that consumes; resolves when it does. */
  static consume(context: CaseContext, adapter: ProcessAdapter, wish: ConsumeWish): Promise<WorkerProcess> {
    return WorkerProcess.#start(context, (log) => ({
      type: "consume",
      ordered: false,
      behaviour: "effect",
      concurrency: 2,
      prefetch: 5,
      attempts: 5,
      retryMs: 50,
      ...wish,
      adapter,
      log,
    }));
  }

  /** Starts a worker that publishes and dies; resolves when it has begun. */
  static publish(context: CaseContext, adapter: ProcessAdapter, wish: PublishWish): Promise<WorkerProcess> {
    return WorkerProcess.#start(context, (log) => ({ type: "publish", ...wish, adapter, log }));
  }

  static async #start(
    context: CaseContext,
    order: (log: string) => ConsumeOrder | PublishOrder,
  ): Promise<WorkerProcess> {
    const folder = mkdtempSync(join(tmpdir(), "anybroker-worker-"));
    const given = order(join(folder, "log"));
    const worker = new WorkerProcess(context, given.queue, given.log);
    context.intake(() => worker.#take());
    context.cleanUp(async () => {
      await worker.kill();
      worker.#log.close();
      rmSync(folder, { recursive: true, force: true });
    });
    worker.#child.send(given);
    await context.untilReady("a worker process to be ready", () => {
      if (worker.#running) return worker.#ready;
      // What it was given to do may have killed it before it could say that it was ready.
      if (worker.#child.signalCode === "SIGKILL") return true;
      throw new Error(`a worker process ended at once\n${worker.#errors}`);
    });
    return worker;
  }

  /** Whether the process is still there. */
  get running(): boolean {
    return this.#running;
  }

  /** Lets handlers of the behaviour `gate` go on. */
  openGate(): void {
    this.#child.send({ type: "open-gate" });
  }

  /** Kills the process (SIGKILL); resolves when it is gone and its last report is in the ledger. A second call does nothing. */
  async kill(): Promise<void> {
    if (this.#running) this.#child.kill("SIGKILL");
    await this.#exited;
    this.#take();
  }

  #take(): void {
    for (const report of this.#log.read()) this.#book(report);
  }

  #book(report: WorkerReport): void {
    const { ledger } = this.#context;
    switch (report.type) {
      case "ready":
        this.#ready = true;
        break;
      case "broken":
        throw new Error(`a worker process failed: ${report.message}\n${this.#errors}`);
      case "start":
        this.starts++;
        this.attempts.set(report.id, [...(this.attempts.get(report.id) ?? []), report.attempt]);
        ledger.started(this.#source, report.id, report.print);
        break;
      case "effect":
        this.effects++;
        ledger.effected(this.#source, report.id);
        break;
      case "acked":
        this.acked.add(report.id);
        break;
      case "attempted":
        ledger.attempted(report.id, [this.#source], report.print);
        break;
      case "confirmed":
        this.confirmed.add(report.id);
        ledger.ended(report.id, "confirmed");
        break;
    }
  }
}
