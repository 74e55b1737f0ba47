import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { AnyHarness, StoreContext } from "./suite.ts";

/** How another process opens a store on the same database. */
export interface ProcessPlace {
  /** The URL of a module that exports the function. */
  readonly module: string;
  /** Its argument, sent as JSON. */
  readonly options: unknown;
}

/** The answer of a store process to an order. */
export type StoreAnswer =
  | { readonly type: "answer"; readonly texts: readonly string[] }
  | { readonly type: "failed"; readonly message: string };

/** A store in another process, which a case can kill. `Order` is the type of its orders. */
export class StoreProcess<Order extends object> {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #context: StoreContext<unknown>;

  /** Starts the program, which has to call `obeyOrders`. */
  constructor(context: StoreContext<unknown>, program: URL) {
    this.#context = context;
    this.#child = fork(fileURLToPath(program), { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#exited = once(this.#child, "exit");
    context.cleanUp(() => this.kill());
  }

  /** Sends one order and waits for its answer. */
  async ask(order: Order): Promise<readonly string[]> {
    const answered = once(this.#child, "message");
    const died = this.#exited.then(() => Promise.reject(new Error("a store process ended")));
    this.#child.send(order);
    const [answer] = (await this.#context.inTime("a store process", Promise.race([answered, died]))) as [StoreAnswer];
    if (answer.type === "failed") throw new Error(`a store process failed: ${answer.message}`);
    return answer.texts;
  }

  /** Kills the process (SIGKILL). Resolves when it has ended. A second call does nothing. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

/** How to open the store in another process. If undefined, the case is reported as not run. */
export function processesOf(
  context: StoreContext<AnyHarness & { readonly withoutProcesses?: string }>,
  processes: ProcessPlace | undefined,
): ProcessPlace | undefined {
  if (processes === undefined) {
    context.cannot("the harness has no `processes`", context.harness.withoutProcesses);
  }
  return processes;
}
