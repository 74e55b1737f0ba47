import type { DeliveryToken, IncomingMessage } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { type Clock, type Timer, within } from "../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { BridgeOriginals, isReference, movedCopy } from "./bridge-copy.ts";
import type { BridgeEnds, LeftMessage } from "./bridge-ends.ts";
import { BridgeReceiver } from "./bridge-receiver.ts";
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
class BridgeKeyQueues {
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

  /** Empties the queues of what waits. */
  clear(): void {
    this.#ready.clear();
    this.#busy.clear();
    this.#stuck.clear();
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
  readonly #queues: BridgeKeyQueues;
  readonly #originals: BridgeOriginals;
  readonly #held = new Map<DeliveryToken, InHand>();
  readonly #timers = new Set<Timer>();
  #left = 0;
  #sending = 0;
  #paused = false;
  #closing = false;
  #intake: BridgeReceiver | undefined;
  #idle: { readonly holds: () => boolean; readonly done: () => void } | undefined;
  stalled: MessagingError | undefined = undefined;

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#queues = new BridgeKeyQueues(parts.ends.ordered);
    this.#originals = new BridgeOriginals(parts.from);
  }

  async open(): Promise<void> {
    const { from, ends, prefetch } = this.#parts;
    this.#intake = await BridgeReceiver.open(from, ends, prefetch.size(0), {
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
      const held = this.#queues.take();
      if (held === undefined) return;
      if (held.lost) {
        this.#over(held);
        continue;
      }
      const stuck = this.#queues.stuck(held);
      if (stuck !== undefined) {
        this.#leave(held, stuck);
      } else if (this.#parts.pacer.pass()) {
        this.#send(held);
      } else {
        this.#queues.putBack(held);
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
      this.#queues.push(held);
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
          this.#queues.putBack(held);
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
    this.#queues.leave(held, error);
    this.#applyPrefetch();
    if (this.#left > MOST_LEFT) this.#parts.failed(error);
    this.#check();
    this.pump();
  }

  #over(held: InHand): void {
    if (this.#held.get(held.message.token) === held) this.#held.delete(held.message.token);
    this.#queues.leave(held);
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
    this.#queues.clear();
    this.#parts.pacer.stop();
    if (this.#intake !== undefined) await within(clock, SETTLE_MS, this.#intake.requeue(rest));
    await this.#intake?.close();
    this.#intake = undefined;
  }
}
