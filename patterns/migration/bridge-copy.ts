import type { IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import {
  HEADER,
  headerBytes,
  numberHeader,
  publishedAt,
  timeHeader,
  userHeaders,
  withHeaders,
} from "../../core/system-headers.ts";

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

/**
 * The message as it is sent to the other broker: under its id, with everything that it carries. What is left of a delay and
 * of a time to live goes on. Throws `too-large` for what the other broker does not take, and why for what nobody could read.
 */
export function movedCopy(incoming: IncomingMessage, to: BrokerInternals, priorities: number): OutgoingMessage {
  const { id, key, routingKey, body, contentType, priority = 0, foreign } = incoming;
  const { capabilities, name } = to.adapter;
  // Its body is not here: a copy would be of nothing.
  if (incoming.unreadable !== undefined) throw incoming.unreadable;
  // A consumer there would take a copy without them for the message.
  if (incoming.unreadHeaders !== undefined) throw incoming.unreadHeaders;
  refuseLarge(incoming, to);
  const now = to.clock.now();
  const delayMs = Math.min(Math.max((timeHeader(incoming.headers, HEADER.dueAt) ?? now) - now, 0), LONGEST_MS);
  const { maxMs } = capabilities.delay;
  if (delayMs > 0 && capabilities.delay.support === "unsupported") {
    throw new MessagingError("unsupported", `message ${id} is to be delivered later, and ${name} has no delay`);
  }
  const headers = withHeaders(incoming.headers, {
    // One more than before, also so that a broker which drops duplicates tells it from its own message of before.
    [HEADER.moves]: String(numberHeader(incoming.headers, HEADER.moves, 0) + 1),
    ...(delayMs > maxMs ? {} : { [HEADER.dueAt]: undefined }),
    ...known(incoming),
  });
  const expiresAt = timeHeader(headers, HEADER.expiresAt);
  return {
    id,
    key,
    routingKey,
    headers,
    body,
    contentType,
    size: body.length + headerBytes(headers),
    priority: Math.min(priority, priorities - 1),
    delayMs: Math.min(delayMs, maxMs),
    ttlMs: expiresAt === undefined ? undefined : Math.min(Math.max(expiresAt - now, 1), LONGEST_MS),
    ...(foreign === undefined ? undefined : { foreign }),
  };
}

/** What the old broker tells of a message of another sender, and the new one could not. */
function known({ headers, id, sentAt, expiresAt }: IncomingMessage): Record<string, string> {
  const known: Record<string, string> = {};
  if (sentAt !== undefined && publishedAt(headers, id) === undefined) known[HEADER.publishedAt] = String(sentAt);
  if (expiresAt !== undefined && timeHeader(headers, HEADER.expiresAt) === undefined) {
    known[HEADER.expiresAt] = String(expiresAt);
  }
  return known;
}

function refuseLarge({ id, body, headers }: IncomingMessage, { adapter }: BrokerInternals): void {
  const { maxMessageBytes, maxHeaders, maxHeaderBytes } = adapter.capabilities;
  const own = userHeaders(headers);
  const count = Object.keys(own).length;
  const bytes = headerBytes(own);
  if (body.length <= maxMessageBytes && count <= maxHeaders && bytes <= maxHeaderBytes) return;
  const has = `message ${id} has a body of ${body.length} bytes and ${count} headers of ${bytes} bytes`;
  const takes = `${adapter.name} takes ${maxMessageBytes}, ${maxHeaders} and ${maxHeaderBytes}`;
  throw new MessagingError("too-large", `${has}, and ${takes}; it stays where it is. Handle it there`);
}
