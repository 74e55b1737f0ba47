import type { Timer } from "../../../core/clock.ts";
import { isMessagingError, type MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { operationError } from "../errors.ts";
import type { ProducerIdentity } from "../port.ts";
import { type ProducerSettings, RETRY } from "./settings.ts";

const WHAT = "get an identity for producing";

/** What waits for an identity. */
export interface IdentityOwner {
  identified(): void;
  /** There is none, and trying on would not help. */
  refused(error: MessagingError): void;
}

/** Gets producer identities from the cluster: one for all partitions, and another for those that gave theirs up. */
export class Identities {
  readonly #settings: ProducerSettings;
  readonly #owner: IdentityOwner;
  #current: ProducerIdentity | undefined;
  #isAsking = false;
  /** That we may write nowhere, as Kafka answered last. */
  #forbidden: MessagingError | undefined;
  #failures = 0;
  #pause: Timer | undefined;
  #isClosed = false;

  constructor(settings: ProducerSettings, owner: IdentityOwner) {
    this.#settings = settings;
    this.#owner = owner;
  }

  /**
   * Gets the first. Rejects if there is none within the time of a request. Resolves without one where it is refused for
   * lack of rights: who may write nowhere may still read, and hears of it when something is to be written.
   */
  async open(): Promise<void> {
    const { clock, requestTimeoutMs } = this.#settings;
    const deadline = clock.monotonic() + requestTimeoutMs;
    for (let failures = 1; ; failures++) {
      const error = await this.#ask();
      if (error === undefined || error === this.#forbidden) return;
      const pauseMs = backoffMs(failures, RETRY, this.#settings.random);
      if (this.#isClosed || !isMessagingError(error, "unreachable") || clock.monotonic() + pauseMs > deadline)
        throw error;
      await new Promise<void>((resolve) => clock.schedule(resolve, pauseMs));
    }
  }

  /** The newest identity if it is not `last`; otherwise one is asked for, and undefined returned until then. */
  newerThan(last: ProducerIdentity | undefined): ProducerIdentity | undefined {
    if (this.#current !== last) return this.#current;
    void this.#obtain();
    return undefined;
  }

  close(): void {
    this.#isClosed = true;
    if (this.#pause !== undefined) this.#settings.clock.cancel(this.#pause);
  }

  async #obtain(): Promise<void> {
    if (this.#isAsking || this.#pause !== undefined) return;
    this.#isAsking = true;
    const error = await this.#ask();
    this.#isAsking = false;
    if (this.#isClosed) return;
    if (error === undefined) {
      this.#failures = 0;
      this.#owner.identified();
      return;
    }
    if (error.code === "unauthorized" || error.code === "unsupported") this.#owner.refused(error);
    this.#pause = this.#settings.clock.schedule(
      () => {
        this.#pause = undefined;
      },
      backoffMs(++this.#failures, RETRY, this.#settings.random),
    );
  }

  async #ask(): Promise<MessagingError | undefined> {
    try {
      const identity = await this.#settings.connection.producerIdentity();
      if (identity.error !== undefined) {
        const error = operationError(identity.error, WHAT, "try again");
        if (error.code === "unauthorized") this.#forbidden = error;
        return error;
      }
      this.#current = identity;
      return undefined;
    } catch (error) {
      return error as MessagingError;
    }
  }
}
