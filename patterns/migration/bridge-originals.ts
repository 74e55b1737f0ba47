import type { BrokerInternals } from "../../core/broker-internals.ts";
import { type DeadLettersAddress, type IncomingMessage, isMessagingError, MessagingError } from "../../core/index.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";

/** Whether a dead letter only says where its message is stored: on the other broker it would lead nowhere. */
export function isReference({ headers }: IncomingMessage): boolean {
  return headers[HEADER.deadReference] !== undefined;
}

/**
 * The messages that dead letters refer to, as dead letters of their own. They are too large for most copies, so they are read
 * and sent one after another: one is in memory at a time.
 */
export class BridgeOriginals {
  readonly #from: BrokerInternals;
  #last: Promise<unknown> = Promise.resolve();

  constructor(from: BrokerInternals) {
    this.#from = from;
  }

  /** Calls for each. Rejects if they cannot be had, with `invalid` if they are gone, and as the call does. */
  each(of: DeadLettersAddress, letter: IncomingMessage, send: (whole: IncomingMessage) => Promise<unknown>) {
    const sent = this.#last.then(async () => {
      for (const message of await this.#resolve(of, letter)) {
        const headers = withHeaders({ ...message.headers, ...letter.headers }, { [HEADER.deadReference]: undefined });
        await send({ ...message, headers });
      }
    });
    this.#last = sent.catch(() => {});
    return sent;
  }

  async #resolve(of: DeadLettersAddress, letter: IncomingMessage): Promise<readonly IncomingMessage[]> {
    const { adapter } = this.#from;
    const where = letter.headers[HEADER.deadReference];
    const found = await adapter.resolve?.(of, letter).catch((cause: unknown) => {
      if (!isMessagingError(cause, "not-found")) throw cause;
      // It is about this message only.
      const text = `message ${letter.id} is gone from ${where}, where its dead letter refers to; discard the dead letter`;
      throw new MessagingError("invalid", text, { cause });
    });
    if (found !== undefined) return found;
    throw new MessagingError(
      "unsupported",
      `${adapter.name} cannot read ${where}, which dead letter ${letter.id} refers to`,
    );
  }
}
