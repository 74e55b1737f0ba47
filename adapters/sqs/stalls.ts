import type { DeliverySink } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";

/** What can keep a receiver from taking messages: polls, deletes, requeues, renewals of leases. */
export type StallReason = "poll" | "delete" | "hide" | "renew";

/** Why a receiver takes no messages, each reason told once. */
export class Stalls {
  readonly #sink: Pick<DeliverySink, "stalled" | "flowing">;
  readonly #causes = new Map<StallReason, MessagingError>();
  #told: StallReason | undefined;

  constructor(sink: Pick<DeliverySink, "stalled" | "flowing">) {
    this.#sink = sink;
  }

  /** Whether nothing should be taken, because what is held cannot be settled or kept. */
  get isHeldBack(): boolean {
    return this.#causes.size > (this.#causes.has("poll") ? 1 : 0);
  }

  stalled(reason: StallReason, cause: MessagingError): void {
    const before = this.#causes.get(reason);
    this.#causes.set(reason, cause);
    if (before?.code === cause.code && before.message === cause.message) return;
    this.#told = reason;
    this.#sink.stalled(cause);
  }

  /** A reason is over, if it was one. */
  over(reason: StallReason): void {
    if (!this.#causes.delete(reason)) return;
    const [next] = this.#causes;
    if (next === undefined) this.#sink.flowing();
    else if (this.#told === reason) {
      this.#told = next[0];
      this.#sink.stalled(next[1]);
    }
  }

  /** A poll brought something, which a delivery says by itself. */
  delivers(): void {
    this.#causes.delete("poll");
  }
}
