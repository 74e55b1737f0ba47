import type { IncomingMessage } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import type { DeadLetter } from "./dead-letter.ts";

const BEYOND_READING: readonly MessagingErrorCode[] = ["not-found", "invalid", "unsupported", "too-large"];

/**
 * The messages that dead letters stand for: mostly themselves. Some only refer to messages, which are too large for copies:
 * those are read one after another, so that one is in memory at a time.
 */
export class Originals {
  readonly #internals: Pick<BrokerInternals, "adapter">;
  readonly #of: DeadLettersAddress;
  #last: Promise<unknown> = Promise.resolve();

  constructor(internals: Pick<BrokerInternals, "adapter">, of: DeadLettersAddress) {
    this.#internals = internals;
    this.#of = of;
  }

  /**
   * Calls with the messages that a dead letter refers to; nothing of them is to be kept. Rejects if they are gone, or cannot
   * be read, and as the call does.
   */
  use<Result>(
    letter: DeadLetter,
    use: (messages: readonly IncomingMessage[]) => Result | Promise<Result>,
  ): Promise<Result> {
    const used = this.#last.then(async () => use(await this.#resolve(letter)));
    this.#last = used.catch(() => {});
    return used;
  }

  #resolve({ message, reference }: DeadLetter): Promise<readonly IncomingMessage[]> {
    const { adapter } = this.#internals;
    const found = adapter.resolve?.(this.#of, message);
    if (found !== undefined) return found;
    throw new MessagingError("unsupported", `${adapter.name} cannot read ${reference}, which a dead letter refers to`);
  }
}

/** Whether what could not be read cannot be read by another try either. */
export function isBeyondReading(error: unknown): boolean {
  return isMessagingError(error) && BEYOND_READING.includes(error.code);
}
