import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { InboxMessage } from "../../../patterns/outbox/inbox-store.ts";
import type { NewOutboxRow } from "../../../patterns/outbox/store.ts";
import type { ProcessPlace } from "./harness.ts";
import type { AnyHarness, StoreContext } from "./suite.ts";

/** What a store process is asked for; it answers each once. */
export type StoreOrder =
  | { readonly type: "open"; readonly what: "outbox" | "inbox"; readonly from: ProcessPlace }
  /** Inserts a row of each id in a transaction that stays open; answers when they are in. */
  | {
      readonly type: "insert-and-stay";
      readonly rows: readonly (Omit<NewOutboxRow, "body"> & { readonly body: string })[];
    }
  /** Answers with the ids of the claimed rows. */
  | { readonly type: "claim"; readonly leaseMs: number }
  /** Handles a message whose effect is its id; answers before the commit and stays there, or after it. */
  | { readonly type: "handle"; readonly message: InboxMessage; readonly stay: boolean };

export type StoreAnswer =
  | { readonly type: "answer"; readonly texts: readonly string[] }
  | { readonly type: "failed"; readonly message: string };

const EXTENSION = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const PROGRAM = fileURLToPath(new URL(`store-worker${EXTENSION}`, import.meta.url));

/** A store in a process of its own, which a case kills. */
export class StoreProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #context: StoreContext<unknown>;

  private constructor(context: StoreContext<unknown>) {
    this.#context = context;
    this.#child = fork(PROGRAM, { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#exited = once(this.#child, "exit");
    context.cleanUp(() => this.kill());
  }

  /** Starts a process; resolves when its store is open. */
  static async start(
    context: StoreContext<unknown>,
    what: "outbox" | "inbox",
    from: ProcessPlace,
  ): Promise<StoreProcess> {
    const process = new StoreProcess(context);
    await process.ask({ type: "open", what, from });
    return process;
  }

  /** Kills the process (SIGKILL); resolves when it is gone. A second call does nothing. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  async ask(order: StoreOrder): Promise<readonly string[]> {
    const answered = once(this.#child, "message");
    const died = this.#exited.then(() => Promise.reject(new Error("a store process ended")));
    this.#child.send(order);
    const [answer] = (await this.#context.inTime("a store process", Promise.race([answered, died]))) as [StoreAnswer];
    if (answer.type === "failed") throw new Error(`a store process failed: ${answer.message}`);
    return answer.texts;
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
