import { isMessagingError, MessagingError } from "../errors.ts";
import type { ConsumerContext } from "./consumer-context.ts";

/** Whether a consumer can take messages, and why not; says so when that changes. */
export class Flow {
  readonly #context: Pick<ConsumerContext, "sourceName" | "emit">;
  #error: MessagingError | undefined;

  constructor(context: Pick<ConsumerContext, "sourceName" | "emit">) {
    this.#context = context;
  }

  /** Why it cannot take messages for now; undefined while it can. */
  get error(): MessagingError | undefined {
    return this.#error;
  }

  stalled(cause: unknown): void {
    const { sourceName, emit } = this.#context;
    this.#error = isMessagingError(cause)
      ? cause
      : new MessagingError("unreachable", `${sourceName} cannot be consumed for now; it is tried again`, { cause });
    emit({ type: "stalled", source: sourceName, error: this.#error });
  }

  flowing(): void {
    if (this.#error === undefined) return;
    this.#error = undefined;
    this.#context.emit({ type: "flowing", source: this.#context.sourceName });
  }
}
