import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { CaseContext } from "../../../conformance/context.ts";
import { LogReader } from "../../../conformance/workers/log.ts";
import type { WorkOrder } from "./worker.ts";

const PROGRAM = fileURLToPath(new URL("worker.ts", import.meta.url));

/** A worker in a process of its own, which a case kills. */
export class Worker {
  /** Ids whose handlers began, in order. */
  readonly starts: string[] = [];
  /** Ids that had their effect, in order. */
  readonly effects: string[] = [];
  readonly #child: ChildProcess = fork(PROGRAM, { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
  readonly #exited: Promise<unknown> = once(this.#child, "exit");
  readonly #log: LogReader;
  #ready = false;

  private constructor(log: string) {
    this.#log = new LogReader(log);
  }

  /** Starts a worker; resolves when it consumes. */
  static async start(context: CaseContext, order: WorkOrder): Promise<Worker> {
    const worker = new Worker(order.log);
    context.intake(() => worker.#take());
    context.cleanUp(async () => {
      await worker.kill();
      worker.#log.close();
    });
    worker.#child.send(order);
    await context.untilReady("a worker to be ready", () => worker.#ready);
    return worker;
  }

  /** Kills it (SIGKILL); resolves when it is gone and all that it did is known. A second call does nothing. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
    this.#take();
  }

  #take(): void {
    for (const report of this.#log.read()) {
      if (report.type === "ready") this.#ready = true;
      if (report.type === "broken") throw new Error(`a worker failed: ${report.message}`);
      if (report.type === "start") this.starts.push(report.id);
      if (report.type === "effect") this.effects.push(report.id);
    }
  }
}
