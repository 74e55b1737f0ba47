import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { AnyHarness, StoreContext } from "./suite.ts";

/** How another process opens a store on the same database. */
export interface ProcessPlace {
  /** The URL of a module that exports a function for it. */
  readonly module: string;
  /** What that is called with; travels as JSON. */
  readonly options: unknown;
}

/** What a store process says to an order. */
export type StoreAnswer =
  | { readonly type: "answer"; readonly texts: readonly string[] }
  | { readonly type: "failed"; readonly message: string };

/** A store in a process of its own, which a case may kill. `Order` is what its program understands. */
export class StoreProcess<Order extends object> {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #context: StoreContext<unknown>;

  /** Starts the program, which is to call `obeyOrders`. */
  constructor(context: StoreContext<unknown>, program: URL) {
    this.#context = context;
    this.#child = fork(fileURLToPath(program), { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#exited = once(this.#child, "exit");
    context.cleanUp(() => this.kill());
  }

  /** Gives one order and waits for its answer. */
  async ask(order: Order): Promise<readonly string[]> {
    const answered = once(this.#child, "message");
    const died = this.#exited.then(() => Promise.reject(new Error("a store process ended")));
    this.#child.send(order);
    const [answer] = (await this.#context.inTime("a store process", Promise.race([answered, died]))) as [StoreAnswer];
    if (answer.type === "failed") throw new Error(`a store process failed: ${answer.message}`);
    return answer.texts;
  }

  /** Kills the process (SIGKILL); resolves when it is gone. A second call does nothing. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

/** The way to another process; undefined, and the case is not run, where there is none. */
export function processesOf(
  context: StoreContext<AnyHarness & { readonly withoutProcesses?: string }>,
  processes: ProcessPlace | undefined,
): ProcessPlace | undefined {
  if (processes === undefined) {
    context.cannot("the harness gives no way to open a store in another process", context.harness.withoutProcesses);
  }
  return processes;
}
