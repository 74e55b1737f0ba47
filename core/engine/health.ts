import { isMessagingError, MessagingError } from "../errors.ts";
import type { ConsumerContext } from "./consumer-context.ts";

/** Whether a consumer can take messages, and why not; says so when that changes. Parked messages stall it, too. */
export class ConsumerHealth {
  readonly #context: Pick<ConsumerContext, "sourceName" | "emit">;
  #stalled: MessagingError | undefined;
  #parked: MessagingError | undefined;

  constructor(context: Pick<ConsumerContext, "sourceName" | "emit">) {
    this.#context = context;
  }

  /** Why it cannot take messages for now, or else why some are parked; undefined while all is well. */
  get error(): MessagingError | undefined {
    return this.#stalled ?? this.#parked;
  }

  stalled(cause: unknown): void {
    const { sourceName, emit } = this.#context;
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unreachable", `${sourceName} cannot be consumed for now; it is tried again`, { cause });
    this.#stalled = error;
    emit({ type: "stalled", source: sourceName, error });
  }

  flowing(): void {
    if (this.#stalled === undefined) return;
    this.#stalled = undefined;
    this.#tellFlowing();
  }

  /** Why the one that was parked last is parked; undefined once none is. */
  parked(error: MessagingError | undefined): void {
    const before = this.#parked;
    this.#parked = error;
    const { sourceName, emit } = this.#context;
    if (before === undefined && error !== undefined) emit({ type: "stalled", source: sourceName, error });
    else if (before !== undefined && error === undefined) this.#tellFlowing();
  }

  #tellFlowing(): void {
    if (this.error === undefined) this.#context.emit({ type: "flowing", source: this.#context.sourceName });
  }
}
