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

/** A worker process, which a case can kill. Its reports go to the case's ledger. */
export class WorkerProcess {
  /** `delivery.attempt` of each handler start, per message. */
  readonly attempts = new Map<string, number[]>();
  /** Ids whose ack the broker accepted. */
  readonly acked = new Set<string>();
  /** Ids that were confirmed to the publisher. */
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

  /** Starts a worker that consumes. Resolves when its broker has started. */
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

  /** Starts a worker that publishes and dies. Resolves when its broker has started. */
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
      // Its order may have killed it before it reported that it is ready.
      if (worker.#child.signalCode === "SIGKILL") return true;
      throw new Error(`a worker process ended at its start\n${worker.#errors}`);
    });
    return worker;
  }

  /** Whether the process is running. */
  get running(): boolean {
    return this.#running;
  }

  /** Lets handlers of the behaviour `gate` continue. */
  openGate(): void {
    this.#child.send({ type: "open-gate" });
  }

  /** Kills the process (SIGKILL). Resolves when its last report is in the ledger. A second call does nothing. */
  async kill(): Promise<void> {
    if (this.#running) this.#child.kill("SIGKILL");
    await this.#exited;
    this.#take();
  }

  #take(): void {
    for (const report of this.#log.read()) this.#record(report);
  }

  #record(report: WorkerReport): void {
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
