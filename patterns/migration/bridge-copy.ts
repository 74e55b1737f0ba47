import type {
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  OutgoingMessage,
  Receiver,
  SettleResult,
} from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import type { Timer } from "../../core/clock.ts";
import { counted } from "../../core/counted.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { shownId, shownReference } from "../../core/foreign.ts";
import {
  HEADER,
  headerBytes,
  numberHeader,
  publishedAt,
  timeHeader,
  userHeaders,
  withHeaders,
} from "../../core/system-headers.ts";
import type { BridgeEnds } from "./bridge-ends.ts";
import { CallBatcher } from "./call-batcher.ts";

/** Whether a dead letter is a reference. The other broker cannot resolve it. */
export function isReference({ headers }: IncomingMessage): boolean {
  return headers[HEADER.deadReference] !== undefined;
}

/**
 * Sends the messages that dead letters refer to, as dead letters. They are too large for most copies: one is read and sent
 * at a time.
 */
export class BridgeOriginals {
  readonly #from: BrokerInternals;
  #last: Promise<unknown> = Promise.resolve();

  constructor(from: BrokerInternals) {
    this.#from = from;
  }

  /** Calls `send` for each. Rejects with `invalid` if the message is gone, if it cannot be read, and as `send` does. */
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
    const where = shownReference(letter.headers[HEADER.deadReference]);
    const found = await adapter.resolve?.(of, letter).catch((cause: unknown) => {
      if (!isMessagingError(cause, "not-found")) throw cause;
      // A failure of one message: it does not end the bridge.
      const text = `${where} has no message ${shownId(letter.id)} any more, which a dead letter refers to; discard the dead letter`;
      throw new MessagingError("invalid", text, { cause });
    });
    if (found !== undefined) return found;
    throw new MessagingError(
      "unsupported",
      `${adapter.name} cannot read ${where}, which dead letter ${shownId(letter.id)} refers to`,
    );
  }
}

/**
 * Makes the copy for the other broker: the same id and content, with the rest of its delay and time to live. Throws
 * `too-large` if it is over the other broker's limits, and the reason if the message could not be read.
 */
export function movedCopy(incoming: IncomingMessage, to: BrokerInternals, priorities: number): OutgoingMessage {
  const { id, key, routingKey, body, contentType, priority = 0, foreign } = incoming;
  const { capabilities, name } = to.adapter;
  // The body could not be read.
  if (incoming.unreadable !== undefined) throw incoming.unreadable;
  // A copy would lack headers.
  if (incoming.unreadHeaders !== undefined) throw incoming.unreadHeaders;
  refuseLarge(incoming, to);
  const now = to.clock.now();
  const delayMs = Math.min(Math.max((timeHeader(incoming.headers, HEADER.dueAt) ?? now) - now, 0), LONGEST_MS);
  const { maxMs } = capabilities.delay;
  if (delayMs > 0 && capabilities.delay.support === "unsupported") {
    throw new MessagingError(
      "unsupported",
      `message ${shownId(id)} has a delay, and ${name} has none; move it when it is due`,
    );
  }
  const headers = withHeaders(incoming.headers, {
    // Also lets a broker with deduplication tell the copy from its own earlier message.
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

/** What the old broker knows about a foreign message, as headers. */
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
  const has = `message ${shownId(id)} has a body of ${counted(body.length, "byte")} and ${counted(count, "header")} of ${counted(bytes, "byte")}`;
  const takes = `${adapter.name} takes ${maxMessageBytes}, ${maxHeaders} and ${maxHeaderBytes}`;
  throw new MessagingError("too-large", `${has}, and ${takes}; it stays where it is: consume it there`);
}

/** How many times a lease is renewed before it would end. */
const RENEWALS = 3;

/** The callbacks of a {@link BridgeReceiver}. */
interface BridgeReceiverEvents {
  deliver(batch: readonly IncomingMessage[]): void;
  lost(tokens: readonly DeliveryToken[] | "all"): void;
  revoke(tokens: readonly DeliveryToken[]): void;
  stalled(error: MessagingError | undefined): void;
  filtered(count: number): void;
  /** All deliveries in flight. Their leases are renewed. */
  tokens(): readonly DeliveryToken[];
}

/** The receiver at the old broker, with its leases and settlements. */
export class BridgeReceiver {
  readonly #receiver: Receiver;
  readonly #acks: CallBatcher<DeliveryToken, SettleResult>;
  readonly #events: BridgeReceiverEvents;
  readonly #internals: BrokerInternals;
  #prefetch: number;
  #renewal: Timer | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(receiver: Receiver, prefetch: number, events: BridgeReceiverEvents, internals: BrokerInternals) {
    this.#receiver = receiver;
    this.#acks = new CallBatcher(Number.POSITIVE_INFINITY, (tokens) =>
      receiver.settle(tokens.map((token) => ({ token, action: "ack" }))),
    );
    this.#events = events;
    this.#prefetch = prefetch;
    this.#internals = internals;
    this.#renewLater();
  }

  /** Rejects as `Adapter.receive` does. */
  static async open(
    internals: BrokerInternals,
    ends: BridgeEnds,
    prefetch: number,
    events: BridgeReceiverEvents,
  ): Promise<BridgeReceiver> {
    const { source, ordered, subscription } = ends;
    const sink: DeliverySink = {
      deliver: (batch) => events.deliver(batch),
      lost: (tokens) => events.lost(tokens),
      revoke: (tokens) => events.revoke(tokens),
      stalled: (cause) => events.stalled(cause),
      flowing: () => events.stalled(undefined),
      filtered: (count) => events.filtered(count),
    };
    const options = { prefetch, ordered, ...(subscription === undefined ? {} : { subscription }) };
    return new BridgeReceiver(await internals.adapter.receive(source, options, sink), prefetch, events, internals);
  }

  prefetch(count: number): void {
    if (count === this.#prefetch || this.#closed) return;
    this.#prefetch = count;
    this.#receiver.prefetch(count);
  }

  /** Never rejects. */
  ack(token: DeliveryToken): Promise<SettleResult> {
    return this.#acks.add(token);
  }

  /** Requeues. Waits for a renewal in progress, which would undo it. */
  async requeue(tokens: readonly DeliveryToken[]): Promise<void> {
    await this.#renewing;
    if (tokens.length > 0) await this.#receiver.settle(tokens.map((token) => ({ token, action: "requeue" })));
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#renewal !== undefined) this.#internals.clock.cancel(this.#renewal);
    await this.#renewing;
    await this.#receiver.close();
  }

  #renewLater(): void {
    const { leaseMs } = this.#receiver;
    if (leaseMs === undefined || this.#closed) return;
    this.#renewal = this.#internals.clock.schedule(() => {
      this.#renewing = this.#renew().then(() => this.#renewLater());
    }, leaseMs / RENEWALS);
  }

  async #renew(): Promise<void> {
    const tokens = this.#events.tokens();
    if (tokens.length === 0) return;
    const kept = await this.#receiver.extend(tokens);
    const lost = tokens.filter((_, index) => kept[index] === false);
    if (lost.length > 0) this.#events.lost(lost);
  }
}
