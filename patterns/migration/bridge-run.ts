import type { DeliveryToken, IncomingMessage } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { type Clock, type Timer, within } from "../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import { shownId } from "../../core/foreign.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { BridgeOriginals, BridgeReceiver, isReference, movedCopy } from "./bridge-copy.ts";
import type { BridgeEnds, LeftMessage } from "./bridge-ends.ts";

const MOST_SHOWN = 100;
const RATE_SPAN_MS = 5_000;
const RATE_STEP_MS = 500;

/** The counters of a bridge since it was made. */
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

  /** A new run takes messages that were left before again. */
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

/** The first prefetch, until body sizes are known. */
const FIRST = 64;
/** The weight of one body in the moving mean. */
const WEIGHT = 1 / 64;

/** Computes the prefetch from the limits of messages and bytes. */
export class BridgePrefetch {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #meanBytes: number | undefined;

  constructor(maxMessages: number, maxBytes: number) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
  }

  arrived(bytes: number): void {
    const before = this.#meanBytes ?? bytes;
    // The mean follows larger bodies at once, and smaller ones slowly.
    this.#meanBytes = bytes > before ? bytes : before + (bytes - before) * WEIGHT;
  }

  /** The prefetch. Messages that are `kept` until the end do not count. */
  size(kept: number): number {
    const most =
      this.#meanBytes === undefined ? FIRST : Math.max(1, Math.floor(this.#maxBytes / (this.#meanBytes + 1)));
    return kept + Math.min(this.#maxMessages, most);
  }
}

/** A message that is delivered and not settled. */
interface InFlightMessage {
  readonly message: IncomingMessage;
  /** `left`: it cannot be moved, and is held so that it is not delivered again. */
  state: "waiting" | "sending" | "acknowledging" | "left";
  /** The old broker took it back. */
  lost: boolean;
  /** Failed sends in a row. */
  failures: number;
}

/**
 * The messages to send next. If the source is ordered, one message of a key at a time. Behind a message that cannot be
 * moved, the messages of its key stay too.
 */
class BridgeKeyQueues {
  readonly #ordered: boolean;
  readonly #ready = new Fifo<InFlightMessage>();
  /** Keys with a message in progress, and the messages that wait behind it. */
  readonly #busy = new Map<string, Fifo<InFlightMessage>>();
  readonly #stuck = new Map<string, MessagingError>();

  constructor(ordered: boolean) {
    this.#ordered = ordered;
  }

  push(held: InFlightMessage): void {
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

  take(): InFlightMessage | undefined {
    return this.#ready.shift();
  }

  /** Sends a message again, before all others. */
  putBack(held: InFlightMessage): void {
    this.#ready.putBack([held]);
  }

  /** Why a message cannot go: the error of an earlier message of its key. */
  stuck({ message: { key } }: InFlightMessage): MessagingError | undefined {
    return this.#ordered && key !== undefined ? this.#stuck.get(key) : undefined;
  }

  /** Ends a message and starts the next of its key; with an error, the messages of its key stay. */
  leave({ message: { key } }: InFlightMessage, error?: MessagingError): void {
    if (!this.#ordered || key === undefined) return;
    if (error !== undefined) this.#stuck.set(key, error);
    const next = this.#busy.get(key)?.shift();
    if (next === undefined) this.#busy.delete(key);
    else this.#ready.push(next);
  }

  clear(): void {
    this.#ready.clear();
    this.#busy.clear();
    this.#stuck.clear();
  }
}

/** Errors with which the other broker refuses one message for good. */
const REFUSED: ReadonlySet<MessagingErrorCode> = new Set<MessagingErrorCode>([
  "too-large",
  "refused",
  "invalid",
  "unsupported",
  "unroutable",
]);
/** Errors with which it refuses every message. */
const FATAL: ReadonlySet<MessagingErrorCode> = new Set<MessagingErrorCode>(["not-found", "unauthorized", "conflict"]);
/** With more refused messages, the bridge fails. */
const MOST_LEFT = 10_000;
/** How long a close waits for acks and requeues, which the broker may delay. */
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
  /** Aborted when nothing is to be sent any more. */
  readonly stop: AbortSignal;
  /** A message arrived or was moved. */
  readonly moved: () => void;
  /** No message can be moved. */
  readonly failed: (error: MessagingError) => void;
}

/** One run of a bridge, from opening the source to closing it. */
export class BridgeRun {
  readonly #parts: RunParts;
  readonly #queues: BridgeKeyQueues;
  readonly #originals: BridgeOriginals;
  readonly #held = new Map<DeliveryToken, InFlightMessage>();
  readonly #timers = new Set<Timer>();
  #left = 0;
  #sending = 0;
  #paused = false;
  #closing = false;
  #receiver: BridgeReceiver | undefined;
  #idle: { readonly holds: () => boolean; readonly done: () => void } | undefined;
  stalled: MessagingError | undefined = undefined;

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#queues = new BridgeKeyQueues(parts.ends.ordered);
    this.#originals = new BridgeOriginals(parts.from);
  }

  async open(): Promise<void> {
    const { from, ends, prefetch } = this.#parts;
    this.#receiver = await BridgeReceiver.open(from, ends, prefetch.size(0), {
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

  /** Messages in flight, including those that stay. */
  get held(): number {
    return this.#held.size;
  }

  /** Messages that stay. */
  get left(): number {
    return this.#left;
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    this.#applyPrefetch();
    if (paused) this.#requeue(() => true);
    else this.pump();
  }

  /** Sends all that may be sent. Waits for the receiver to be open, since acks need it. */
  pump(): void {
    while (!this.#paused && !this.#closing && !this.#parts.stop.aborted && this.#receiver !== undefined) {
      const held = this.#queues.take();
      if (held === undefined) return;
      if (held.lost) {
        this.#finish(held);
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
      const held: InFlightMessage = { message, state: "waiting", lost: false, failures: 0 };
      this.#held.set(message.token, held);
      this.#parts.prefetch.arrived(message.body.length);
      this.#queues.push(held);
    }
    this.#applyPrefetch();
    this.#parts.moved();
    if (this.#closing || this.#paused) this.#requeue(() => true);
    else this.pump();
  }

  #send(held: InFlightMessage): void {
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

  /** Throws if the other broker cannot take the message. */
  #copy(message: IncomingMessage): Promise<unknown> {
    const { to, ends } = this.#parts;
    return to.sendCopy(ends.target, ends.targetOrdered, movedCopy(message, to, ends.priorities));
  }

  #sent(held: InFlightMessage): void {
    this.#sending--;
    held.state = "acknowledging";
    const { tally, moved } = this.#parts;
    moved();
    if (held.lost || this.#receiver === undefined) {
      tally.repeated++;
      this.#finish(held);
      return;
    }
    this.#receiver.ack(held.message.token).then((result) => {
      if (result === "settled") tally.moved++;
      else tally.repeated++;
      this.#finish(held);
    });
  }

  #failed(held: InFlightMessage, cause: unknown): void {
    this.#sending--;
    const { ends, failed, from } = this.#parts;
    const what = `message ${shownId(held.message.id)} could not be moved`;
    const error = isMessagingError(cause) ? cause : new MessagingError("unconfirmed", what, { cause });
    if (error.code === "unroutable" && ends.discardUnroutable) {
      this.#sending++;
      this.#sent(held);
    } else if (REFUSED.has(error.code)) {
      this.#leave(held, error);
    } else if (FATAL.has(error.code) || (error.code === "closed" && !this.#closing)) {
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
    this.#checkIdle();
  }

  /** The message stays: it is held, so that it is not delivered again, and requeued at the close. */
  #leave(held: InFlightMessage, error: MessagingError): void {
    held.state = "left";
    this.#left++;
    this.#parts.tally.leave(held.message.id, error);
    this.#queues.leave(held, error);
    this.#applyPrefetch();
    if (this.#left > MOST_LEFT) this.#parts.failed(error);
    this.#checkIdle();
    this.pump();
  }

  #finish(held: InFlightMessage): void {
    if (this.#held.get(held.message.token) === held) this.#held.delete(held.message.token);
    this.#queues.leave(held);
    this.#checkIdle();
    this.pump();
  }

  #lose(tokens: readonly DeliveryToken[] | "all"): void {
    const lost = tokens === "all" ? [...this.#held.values()] : tokens.flatMap((token) => this.#held.get(token) ?? []);
    for (const held of lost) this.#forget(held);
    // Messages behind a lost one would overtake it. They are requeued, and delivered again behind it.
    if (tokens !== "all" && this.#parts.ends.ordered) {
      const keys = new Set(lost.map(({ message }) => message.key));
      this.#requeue((held) => held.message.key !== undefined && keys.has(held.message.key));
    }
    this.#parts.moved();
    this.pump();
  }

  #forget(held: InFlightMessage): void {
    if (held.state === "left") this.#left--;
    held.lost = true;
    this.#held.delete(held.message.token);
  }

  /** Other consumers need these. Sent messages are acked after their confirm, the rest is requeued. */
  #revoke(tokens: readonly DeliveryToken[]): void {
    const revoked = new Set(tokens);
    this.#requeue(({ message }) => revoked.has(message.token));
  }

  /** Requeues the chosen messages that were not sent. */
  #requeue(chosen: (held: InFlightMessage) => boolean): void {
    const waiting = [...this.#held.values()].filter((held) => held.state === "waiting" && chosen(held));
    for (const held of waiting) this.#forget(held);
    if (waiting.length > 0) void this.#receiver?.requeue(waiting.map(({ message }) => message.token));
  }

  #applyPrefetch(): void {
    this.#receiver?.prefetch(this.#paused || this.#closing ? 0 : this.#parts.prefetch.size(this.#left));
  }

  #checkIdle(): void {
    if (this.#idle?.holds()) this.#idle.done();
  }

  /** Resolves when `holds` is true after a message ended. */
  #until(holds: () => boolean): Promise<void> {
    return new Promise((done) => {
      this.#idle = { holds, done };
      this.#checkIdle();
    });
  }

  /** Waits for sends and acks in progress, requeues the rest, and closes. */
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
    if (this.#receiver !== undefined) await within(clock, SETTLE_MS, this.#receiver.requeue(rest));
    await this.#receiver?.close();
    this.#receiver = undefined;
  }
}

/** The most that a late timer is caught up. Idle time is not saved up. */
const MOST_LATE_MS = 50;

/** Limits a rate. */
export interface Pace {
  /** Whether the next message may pass now; if not, the caller is woken when it may. */
  pass(): boolean;
  /** Sets the rate; undefined for no limit. */
  setRate(perSecond: number | undefined): void;
  /** Cancels the wake-up. */
  stop(): void;
}

/** One rate for several callers, in the order of their calls. */
export class SharedPace {
  readonly #pacer: Pacer;
  #waiting = new Set<() => void>();

  constructor(clock: Clock, perSecond: number | undefined) {
    this.#pacer = new Pacer(clock, perSecond, () => {
      const waiting = this.#waiting;
      this.#waiting = new Set();
      for (const wake of waiting) wake();
    });
  }

  /** The pace of one caller. */
  of(wake: () => void): Pace {
    return {
      pass: () => {
        if (this.#pacer.pass()) return true;
        this.#waiting.add(wake);
        return false;
      },
      setRate: (perSecond) => this.#pacer.setRate(perSecond),
      stop: () => void this.#waiting.delete(wake),
    };
  }
}

/** Spaces messages evenly. */
export class Pacer implements Pace {
  readonly #clock: Clock;
  readonly #wake: () => void;
  #everyMs = 0;
  #next = 0;
  #timer: Timer | undefined;

  /** Calls `wake` when the next message may pass. */
  constructor(clock: Clock, perSecond: number | undefined, wake: () => void) {
    this.#clock = clock;
    this.#wake = wake;
    this.setRate(perSecond);
  }

  setRate(perSecond: number | undefined): void {
    this.#everyMs = perSecond === undefined ? 0 : 1_000 / perSecond;
    this.#next = 0;
    this.stop();
  }

  pass(): boolean {
    if (this.#everyMs === 0) return true;
    const now = this.#clock.monotonic();
    const at = Math.max(this.#next, now - MOST_LATE_MS);
    if (at > now) {
      this.#timer ??= this.#clock.schedule(() => {
        this.#timer = undefined;
        this.#wake();
      }, at - now);
      return false;
    }
    this.#next = at + this.#everyMs;
    return true;
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}
