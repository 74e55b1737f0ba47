import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { StoreContext } from "./context.ts";
import type { ProcessStore } from "./harness.ts";

/** What a store process is asked for; it answers each with its {@link StoreAnswer}, in order. */
export type StoreOrder =
  | { readonly type: "open"; readonly from: ProcessStore }
  | { readonly type: "claim"; readonly keys: readonly string[]; readonly leaseMs: number };

export type StoreAnswer =
  | { readonly type: "answer"; readonly statuses: readonly string[] }
  | { readonly type: "failed"; readonly message: string };

const EXTENSION = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const PROGRAM = fileURLToPath(new URL(`store-worker${EXTENSION}`, import.meta.url));

/** A store in a process of its own, which a case may kill. */
export class StoreProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #context: StoreContext;

  private constructor(context: StoreContext) {
    this.#context = context;
    this.#child = fork(PROGRAM, { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#exited = once(this.#child, "exit");
    context.cleanUp(() => this.kill());
  }

  /** Starts a process; resolves when its store is open. */
  static async start(context: StoreContext, from: ProcessStore): Promise<StoreProcess> {
    const process = new StoreProcess(context);
    await process.#ask({ type: "open", from });
    return process;
  }

  /** Claims all keys at once; resolves with the status of each. */
  claimAll(keys: readonly string[], leaseMs: number): Promise<readonly string[]> {
    return this.#ask({ type: "claim", keys, leaseMs });
  }

  /** Kills the process (SIGKILL); resolves when it is gone. A second call does nothing. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  async #ask(order: StoreOrder): Promise<readonly string[]> {
    const answered = once(this.#child, "message");
    const died = this.#exited.then(() => Promise.reject(new Error("a store process ended")));
    this.#child.send(order);
    const [answer] = (await this.#context.inTime("a store process", Promise.race([answered, died]))) as [StoreAnswer];
    if (answer.type === "failed") throw new Error(`a store process failed: ${answer.message}`);
    return answer.statuses;
  }
}
