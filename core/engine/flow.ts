import type { DeliverySink } from "../adapter.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import type { ConsumerContext } from "./consumer-context.ts";

/** What takes messages for a consumer: its receiver, and the one of its suspects. */
export type FlowPart = "main" | "suspects";

/** Whether a consumer can take messages, and why not; says so when that changes. It flows when both of its parts do, and none is parked. */
export class Flow {
  readonly #context: Pick<ConsumerContext, "sourceName" | "emit">;
  readonly #errors = new Map<FlowPart, MessagingError>();
  #parked: MessagingError | undefined;

  constructor(context: Pick<ConsumerContext, "sourceName" | "emit">) {
    this.#context = context;
  }

  /** Why it cannot take messages for now, or else why some are parked; undefined while all is well. */
  get error(): MessagingError | undefined {
    const [first = this.#parked] = this.#errors.values();
    return first;
  }

  /** What a receiver says of itself. */
  of(part: FlowPart): Pick<DeliverySink, "stalled" | "flowing"> {
    return { stalled: (cause) => this.stalled(cause, part), flowing: () => this.flowing(part) };
  }

  stalled(cause: unknown, part: FlowPart): void {
    const { sourceName, emit } = this.#context;
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unreachable", `${sourceName} cannot be consumed for now; it is tried again`, { cause });
    this.#errors.set(part, error);
    emit({ type: "stalled", source: sourceName, error });
  }

  flowing(...parts: readonly FlowPart[]): void {
    const stalled = this.#errors.size;
    for (const part of parts) this.#errors.delete(part);
    if (stalled > 0) this.#tellFlowing();
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
    if (this.#errors.size > 0 || this.#parked !== undefined) return;
    this.#context.emit({ type: "flowing", source: this.#context.sourceName });
  }
}
