import type { BrokerInternals } from "../../core/broker-internals.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import { afterCurrentTurn, within } from "../../core/clock.ts";
import { Fifo } from "../../core/fifo.ts";
import {
  type Clock,
  type DeadLettersAddress,
  type DeliverySink,
  type DeliveryToken,
  type IncomingMessage,
  isMessagingError,
  MessagingError,
  type MessagingErrorCode,
  type OutgoingMessage,
  type Receiver,
  type SettleResult,
  type Timer,
} from "../../core/index.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import {
  HEADER,
  headerBytes,
  numberHeader,
  publishedAt,
  timeHeader,
  userHeaders,
  withHeaders,
} from "../../core/system-headers.ts";
import type { BridgeEnds, LeftMessage } from "./bridge-ends.ts";
import type { Pace } from "./pacer.ts";

const MOST_SHOWN = 100;
const RATE_SPAN_MS = 5_000;
const RATE_STEP_MS = 500;

/** What a bridge counts, since it was made. */
export class BridgeTally {
  moved = 0;
  repeated = 0;
  left = 0;
  filtered = 0;
  readonly leftMessages: LeftMessage[] = [];
  readonly #clock: Clock;
  #steps: { readonly at: number; readonly moved: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  leave(id: string, error: MessagingError): void {
    this.left++;
    if (this.leftMessages.length < MOST_SHOWN) this.leftMessages.push({ id, error });
  }

  /** What was left comes again when the bridge goes on. */
  begin(): void {
    this.left = 0;
    this.leftMessages.length = 0;
    this.#steps = [{ at: this.#clock.monotonic(), moved: this.moved }];
  }

  /** Messages per second over the last seconds. */
  rate(): number {
    const now = this.#clock.monotonic();
    const last = this.#steps.at(-1);
    if (last === undefined) return 0;
    if (now - last.at >= RATE_STEP_MS) this.#steps.push({ at: now, moved: this.moved });
    while (this.#steps.length > 2 && now - (this.#steps[1]?.at ?? now) >= RATE_SPAN_MS) this.#steps.shift();
    const [first = last] = this.#steps;
    return now > first.at ? ((this.moved - first.moved) * 1_000) / (now - first.at) : 0;
  }
}

/** The first prefetch, until something is known of the sizes of bodies. */
const FIRST = 64;
/** How much one body counts in the mean. */
const WEIGHT = 1 / 64;

/** How many messages may be in hand, bounded in number and in bytes. */
export class BridgePrefetch {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #meanBytes: number | undefined;

  constructor(maxMessages: number, maxBytes: number) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
  }

  /** One arrived. */
  arrived(bytes: number): void {
    const before = this.#meanBytes ?? bytes;
    // A larger one counts at once, smaller ones by and by.
    this.#meanBytes = bytes > before ? bytes : before + (bytes - before) * WEIGHT;
  }

  /** Of those not `kept` for good. */
  size(kept: number): number {
    const most =
      this.#meanBytes === undefined ? FIRST : Math.max(1, Math.floor(this.#maxBytes / (this.#meanBytes + 1)));
    return kept + Math.min(this.#maxMessages, most);
  }
}

/** A message in the hands of a bridge. */
interface InHand {
  readonly message: IncomingMessage;
  /** `left`: it cannot go, and is held so that it does not come again and again. */
  state: "waiting" | "sending" | "acknowledging" | "left";
  /** The old broker has it back. */
  lost: boolean;
  /** Sends without an answer, in a row. */
  failures: number;
}

/**
 * What may be sent next. Where order is kept, one message of a key at a time, oldest first; behind one that has to stay,
 * its key stays.
 */
class BridgeLanes {
  readonly #ordered: boolean;
  readonly #ready = new Fifo<InHand>();
  /** Keys with something under way, and what waits behind it. */
  readonly #busy = new Map<string, Fifo<InHand>>();
  readonly #stuck = new Map<string, MessagingError>();

  constructor(ordered: boolean) {
    this.#ordered = ordered;
  }

  push(held: InHand): void {
    const { key } = held.message;
    if (!this.#ordered || key === undefined) {
      this.#ready.push(held);
      return;
    }
    const behind = this.#busy.get(key);
    if (behind !== undefined) {
      behind.push(held);
      return;
    }
    this.#busy.set(key, new Fifo());
    this.#ready.push(held);
  }

  take(): InHand | undefined {
    return this.#ready.shift();
  }

  /** To be sent again, before all others. */
  putBack(held: InHand): void {
    this.#ready.putBack([held]);
  }

  /** Why a message cannot go, because one of its key before it could not. */
  stuck({ message: { key } }: InHand): MessagingError | undefined {
    return this.#ordered && key !== undefined ? this.#stuck.get(key) : undefined;
  }

  /** One is done with; `error` if it stays, and its key with it. */
  leave({ message: { key } }: InHand, error?: MessagingError): void {
    if (!this.#ordered || key === undefined) return;
    if (error !== undefined) this.#stuck.set(key, error);
    const next = this.#busy.get(key)?.shift();
    if (next === undefined) this.#busy.delete(key);
    else this.#ready.push(next);
  }

  /** Empties the lanes of what waits. */
  clear(): void {
    this.#ready.clear();
    this.#busy.clear();
    this.#stuck.clear();
  }
}

/** Whether a dead letter only says where its message is stored: on the other broker it would lead nowhere. */
function isReference({ headers }: IncomingMessage): boolean {
  return headers[HEADER.deadReference] !== undefined;
}

/**
 * The messages that dead letters refer to, as dead letters of their own. They are too large for most copies, so they are read
 * and sent one after another: one is in memory at a time.
 */
class BridgeOriginals {
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

/** Leases are renewed three times before they end. */
const RENEWALS = 3;

/** What an intake tells its bridge. */
interface IntakeOwner {
  deliver(batch: readonly IncomingMessage[]): void;
  lost(tokens: readonly DeliveryToken[] | "all"): void;
  revoke(tokens: readonly DeliveryToken[]): void;
  stalled(error: MessagingError | undefined): void;
  filtered(count: number): void;
  /** Everything in hand, whose leases are to be kept. */
  tokens(): readonly DeliveryToken[];
}

/** The receiver at the old broker, with its leases and settlements. */
class BridgeIntake {
  readonly #receiver: Receiver;
  readonly #acks: Gathering<DeliveryToken, SettleResult>;
  readonly #owner: IntakeOwner;
  readonly #internals: BrokerInternals;
  #prefetch: number;
  #renewal: Timer | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(receiver: Receiver, prefetch: number, owner: IntakeOwner, internals: BrokerInternals) {
    this.#receiver = receiver;
    this.#acks = new Gathering(Number.POSITIVE_INFINITY, (tokens) =>
      receiver.settle(tokens.map((token) => ({ token, action: "ack" }))),
    );
    this.#owner = owner;
    this.#prefetch = prefetch;
    this.#internals = internals;
    this.#renewLater();
  }

  /** Rejects as `Adapter.receive` does. */
  static async open(
    internals: BrokerInternals,
    ends: BridgeEnds,
    prefetch: number,
    owner: IntakeOwner,
  ): Promise<BridgeIntake> {
    const { source, ordered, subscription } = ends;
    const sink: DeliverySink = {
      deliver: (batch) => owner.deliver(batch),
      lost: (tokens) => owner.lost(tokens),
      revoke: (tokens) => owner.revoke(tokens),
      stalled: (cause) => owner.stalled(cause),
      flowing: () => owner.stalled(undefined),
      filtered: (count) => owner.filtered(count),
    };
    const options = { prefetch, ordered, ...(subscription === undefined ? {} : { subscription }) };
    return new BridgeIntake(await internals.adapter.receive(source, options, sink), prefetch, owner, internals);
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

  /** Gives back, once no renewal is under way that would undo it. */
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
    const tokens = this.#owner.tokens();
    if (tokens.length === 0) return;
    const kept = await this.#receiver.extend(tokens);
    const lost = tokens.filter((_, index) => kept[index] === false);
    if (lost.length > 0) this.#owner.lost(lost);
  }
}

const MOST_IN_FLIGHT = 4;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** Gathers single calls into batched ones, without a timer: what waits goes at once while few batches are in flight. */
export class Gathering<Item, Result> {
  readonly #call: (batch: readonly Item[]) => Promise<readonly Result[]>;
  readonly #most: number;
  #waiting: Waiting<Item, Result>[] = [];
  #inFlight = 0;
  #scheduled = false;

  /** `call` answers with a result for each item, in order. */
  constructor(most: number, call: (batch: readonly Item[]) => Promise<readonly Result[]>) {
    this.#most = most;
    this.#call = call;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (this.#scheduled) return;
      this.#scheduled = true;
      afterCurrentTurn(() => {
        this.#scheduled = false;
        this.#flush();
      });
    });
  }

  #flush(): void {
    while (this.#waiting.length > 0 && this.#inFlight < MOST_IN_FLIGHT) {
      const batch = this.#waiting.splice(0, this.#most);
      this.#inFlight++;
      this.#call(batch.map(({ item }) => item)).then(
        (results) => {
          for (const [index, { resolve }] of batch.entries()) resolve(results[index] as Result);
          this.#next();
        },
        (error: unknown) => {
          for (const { reject } of batch) reject(error);
          this.#next();
        },
      );
    }
  }

  #next(): void {
    this.#inFlight--;
    this.#flush();
  }
}

/** What says that the other broker will never take the message. */
const REFUSED: ReadonlySet<MessagingErrorCode> = new Set<MessagingErrorCode>([
  "too-large",
  "refused",
  "invalid",
  "unsupported",
  "unroutable",
]);
/** What says that it takes none at all. */
const HOPELESS: ReadonlySet<MessagingErrorCode> = new Set<MessagingErrorCode>([
  "not-found",
  "unauthorized",
  "conflict",
]);
/** More are not held apart: whoever refuses so many refuses all. */
const MOST_LEFT = 10_000;
/** How long a close waits for acknowledgements, which a broker may refuse for now, and for what it gives back. */
const SETTLE_MS = 5_000;
const AGAIN = { firstMs: 100, maxMs: 5_000 };

/** The parts of a run. */
interface RunParts {
  readonly from: BrokerInternals;
  readonly to: BrokerInternals;
  readonly ends: BridgeEnds;
  readonly tally: BridgeTally;
  readonly prefetch: BridgePrefetch;
  readonly pacer: Pace;
  /** Something came or went. */
  readonly moved: () => void;
  /** Nothing can be moved at all. */
  readonly failed: (error: MessagingError) => void;
}

/** Takes, sends, and acknowledges, from one opening of the source to its closing. */
export class BridgeRun {
  readonly #parts: RunParts;
  readonly #lanes: BridgeLanes;
  readonly #originals: BridgeOriginals;
  readonly #held = new Map<DeliveryToken, InHand>();
  readonly #timers = new Set<Timer>();
  #left = 0;
  #sending = 0;
  #paused = false;
  #closing = false;
  #intake: BridgeIntake | undefined;
  #idle: { readonly holds: () => boolean; readonly done: () => void } | undefined;
  stalled: MessagingError | undefined = undefined;

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#lanes = new BridgeLanes(parts.ends.ordered);
    this.#originals = new BridgeOriginals(parts.from);
  }

  async open(): Promise<void> {
    const { from, ends, prefetch } = this.#parts;
    this.#intake = await BridgeIntake.open(from, ends, prefetch.size(0), {
      deliver: (batch) => this.#deliver(batch),
      lost: (tokens) => this.#lose(tokens),
      revoke: (tokens) => this.#revoke(tokens),
      stalled: (error) => {
        this.stalled = error;
      },
      filtered: (count) => {
        this.#parts.tally.filtered += count;
        this.#parts.moved();
      },
      tokens: () => [...this.#held.keys()],
    });
    this.#applyPrefetch();
    this.pump();
  }

  /** In hand, those that stay included. */
  get held(): number {
    return this.#held.size;
  }

  /** Held to be left where they were. */
  get left(): number {
    return this.#left;
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    this.#applyPrefetch();
    if (paused) this.#requeue(() => true);
    else this.pump();
  }

  /** Sends what may be sent. What is delivered before the intake is there waits for it: it could not be acknowledged. */
  pump(): void {
    while (!this.#paused && !this.#closing && this.#intake !== undefined) {
      const held = this.#lanes.take();
      if (held === undefined) return;
      if (held.lost) {
        this.#over(held);
        continue;
      }
      const stuck = this.#lanes.stuck(held);
      if (stuck !== undefined) {
        this.#leave(held, stuck);
      } else if (this.#parts.pacer.pass()) {
        this.#send(held);
      } else {
        this.#lanes.putBack(held);
        return;
      }
    }
  }

  #deliver(batch: readonly IncomingMessage[]): void {
    this.stalled = undefined;
    for (const message of batch) {
      const held: InHand = { message, state: "waiting", lost: false, failures: 0 };
      this.#held.set(message.token, held);
      this.#parts.prefetch.arrived(message.body.length);
      this.#lanes.push(held);
    }
    this.#applyPrefetch();
    this.#parts.moved();
    if (this.#closing || this.#paused) this.#requeue(() => true);
    else this.pump();
  }

  #send(held: InHand): void {
    const { source } = this.#parts.ends;
    let sent: Promise<unknown>;
    try {
      sent =
        source.kind === "dead-letters" && isReference(held.message)
          ? this.#originals.each(source, held.message, (whole) => this.#copy(whole))
          : this.#copy(held.message);
    } catch (error) {
      this.#leave(held, error as MessagingError);
      return;
    }
    held.state = "sending";
    this.#sending++;
    sent.then(
      () => this.#sent(held),
      (error: unknown) => this.#failed(held, error),
    );
  }

  /** Throws for what the other broker cannot take. */
  #copy(message: IncomingMessage): Promise<unknown> {
    const { to, ends } = this.#parts;
    return to.sendCopy(ends.target, ends.targetOrdered, movedCopy(message, to, ends.priorities));
  }

  #sent(held: InHand): void {
    this.#sending--;
    held.state = "acknowledging";
    const { tally, moved } = this.#parts;
    moved();
    if (held.lost || this.#intake === undefined) {
      tally.repeated++;
      this.#over(held);
      return;
    }
    this.#intake.ack(held.message.token).then((result) => {
      if (result === "settled") tally.moved++;
      else tally.repeated++;
      this.#over(held);
    });
  }

  #failed(held: InHand, cause: unknown): void {
    this.#sending--;
    const { ends, failed, from } = this.#parts;
    const what = `message ${held.message.id} could not be moved`;
    const error = isMessagingError(cause) ? cause : new MessagingError("unconfirmed", what, { cause });
    if (error.code === "unroutable" && ends.discardUnroutable) {
      this.#sending++;
      this.#sent(held);
    } else if (REFUSED.has(error.code)) {
      this.#leave(held, error);
    } else if (HOPELESS.has(error.code) || (error.code === "closed" && !this.#closing)) {
      failed(error);
    } else if (!this.#closing) {
      this.stalled = error;
      held.state = "waiting";
      held.failures++;
      const timer = from.clock.schedule(
        () => {
          this.#timers.delete(timer);
          this.#lanes.putBack(held);
          this.pump();
        },
        backoffMs(held.failures, AGAIN),
      );
      this.#timers.add(timer);
    }
    this.#check();
  }

  /** It stays where it is: held, so that it does not come again and again, and given back in the end. */
  #leave(held: InHand, error: MessagingError): void {
    held.state = "left";
    this.#left++;
    this.#parts.tally.leave(held.message.id, error);
    this.#lanes.leave(held, error);
    this.#applyPrefetch();
    if (this.#left > MOST_LEFT) this.#parts.failed(error);
    this.#check();
    this.pump();
  }

  #over(held: InHand): void {
    if (this.#held.get(held.message.token) === held) this.#held.delete(held.message.token);
    this.#lanes.leave(held);
    this.#check();
    this.pump();
  }

  #lose(tokens: readonly DeliveryToken[] | "all"): void {
    const lost = tokens === "all" ? [...this.#held.values()] : tokens.flatMap((token) => this.#held.get(token) ?? []);
    for (const held of lost) this.#forget(held);
    // What waits behind one that was lost alone would pass it; given back, it comes again behind it.
    if (tokens !== "all" && this.#parts.ends.ordered) {
      const keys = new Set(lost.map(({ message }) => message.key));
      this.#requeue((held) => held.message.key !== undefined && keys.has(held.message.key));
    }
    this.#parts.moved();
    this.pump();
  }

  #forget(held: InHand): void {
    if (held.state === "left") this.#left--;
    held.lost = true;
    this.#held.delete(held.message.token);
  }

  /** Others are to have these: what is on its way is acknowledged when it is confirmed, the rest goes back. */
  #revoke(tokens: readonly DeliveryToken[]): void {
    const revoked = new Set(tokens);
    this.#requeue(({ message }) => revoked.has(message.token));
  }

  /** Gives back what waits. */
  #requeue(chosen: (held: InHand) => boolean): void {
    const waiting = [...this.#held.values()].filter((held) => held.state === "waiting" && chosen(held));
    for (const held of waiting) this.#forget(held);
    if (waiting.length > 0) void this.#intake?.requeue(waiting.map(({ message }) => message.token));
  }

  #applyPrefetch(): void {
    this.#intake?.prefetch(this.#paused || this.#closing ? 0 : this.#parts.prefetch.size(this.#left));
  }

  #check(): void {
    if (this.#idle?.holds()) this.#idle.done();
  }

  /** Resolves when it holds after something ended. */
  #until(holds: () => boolean): Promise<void> {
    return new Promise((done) => {
      this.#idle = { holds, done };
      this.#check();
    });
  }

  /** Waits for what is on its way, gives back the rest, and closes. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#applyPrefetch();
    const { clock } = this.#parts.from;
    for (const timer of this.#timers) clock.cancel(timer);
    this.#timers.clear();
    await this.#until(() => this.#sending === 0);
    const acknowledged = () => [...this.#held.values()].every(({ state }) => state !== "acknowledging");
    await within(clock, SETTLE_MS, this.#until(acknowledged));
    const rest = [...this.#held.keys()];
    this.#held.clear();
    this.#lanes.clear();
    this.#parts.pacer.stop();
    if (this.#intake !== undefined) await within(clock, SETTLE_MS, this.#intake.requeue(rest));
    await this.#intake?.close();
    this.#intake = undefined;
  }
}
