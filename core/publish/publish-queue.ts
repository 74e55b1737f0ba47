import type { Adapter, OutgoingMessage, SendReport, SendResult } from "../adapter.ts";
import { type Address, describeAddress } from "../address.ts";
import type { Receipt } from "../broker.ts";
import { type Clock, EventLoopTurn, type Random, type Timer } from "../clock.ts";
import type { Deadline, Deadlines, Expiring } from "../deadlines.ts";
import { MessagingError } from "../errors.ts";
import { Fifo } from "../fifo.ts";
import { shownId } from "../foreign.ts";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;
/** How many answered messages may stay before the backlog is searched for them. */
const SPARE_BEFORE_PRUNING = 64;

/** The route to one address. Callers keep it, so that a send needs no lookup. */
export class Route {
  readonly address: Address;
  readonly ordered: boolean;
  /** Made for the first message of a connection; undefined without one. */
  batcher: Batcher | undefined = undefined;
  /** What the publish buffer holds for this address. */
  messages = 0;
  bytes = 0;
  /** Callers that wait for room in it. */
  readonly waiting = new Fifo<PendingSend>();
  waiters = 0;
  /** Per key of an ordered address: the last message that waits for its schema. Later ones of the key wait for its end. */
  readonly validating = new Map<string, Promise<void>>();

  constructor(address: Address, ordered: boolean) {
    this.address = address;
    this.ordered = ordered;
  }
}

/**
 * One accepted message and the caller waiting for it. It is answered exactly once: by the broker's result or by its
 * deadline. At the deadline the error is `timeout` for a message that was never handed over, else `unconfirmed`.
 */
export class PendingSend implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly route: Route;
  readonly message: OutgoingMessage;
  /** Whether the caller has been answered. */
  answered = false;
  /** Whether it has room in the buffer, or still waits for it. */
  admitted = false;
  /** Whether the adapter has it now. */
  inFlight = false;
  readonly #deadlines: Deadlines;
  readonly #onAbandoned: (send: PendingSend) => void;
  readonly #whyDown: () => MessagingError | undefined;
  readonly #resolve: (receipt: Receipt) => void;
  readonly #reject: (error: MessagingError) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: (() => void) | undefined;
  /** Whether the adapter has it, or had it and may have written it. Then no answer means `unconfirmed`. */
  #mayBeStored = false;
  /** Whether a try had no clear result. From then on, even after a refusal the message may be stored. */
  #unknown = false;
  #cause: unknown = undefined;

  /**
   * `onAbandoned` is called when the caller was answered while the adapter did not have the message. `whyDown` returns
   * why there is no connection, if known.
   */
  constructor(
    route: Route,
    message: OutgoingMessage,
    deadlines: Deadlines,
    onAbandoned: (send: PendingSend) => void,
    whyDown: () => MessagingError | undefined,
    resolve: (receipt: Receipt) => void,
    reject: (error: MessagingError) => void,
    signal: AbortSignal | undefined,
  ) {
    this.route = route;
    this.message = message;
    this.#deadlines = deadlines;
    this.#onAbandoned = onAbandoned;
    this.#whyDown = whyDown;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#signal = signal;
    if (signal !== undefined) {
      this.#onAbort = () => this.giveUp("its signal was aborted", "aborted");
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
  }

  handOver(): void {
    this.inFlight = true;
    this.#mayBeStored = true;
  }

  /** Takes a result of the adapter. Returns whether the message has to be sent again. */
  take(result: SendResult): boolean {
    this.inFlight = false;
    if (this.answered) return false;
    if (result.status === "unknown") {
      if (result.unsent !== true) this.#unknown = true;
      this.#mayBeStored = this.#unknown;
      this.#cause = result.cause;
      return true;
    }
    this.#answer();
    if (result.status === "confirmed") this.#resolve({ id: this.message.id });
    else this.#reject(this.#unknown ? this.#refusedAgain(result.error) : result.error);
    return false;
  }

  #refusedAgain(cause: MessagingError): MessagingError {
    const what = `message ${shownId(this.message.id)} to ${describeAddress(this.route.address)}`;
    return new MessagingError(
      "unconfirmed",
      `${what}: an earlier try went unanswered and a later one was refused (${cause.code}); it may or may not be stored. See the cause, and send it again with the same id once that is mended`,
      { cause },
    );
  }

  expire(): void {
    this.giveUp("its deadline passed", "timeout");
  }

  #answer(): void {
    this.answered = true;
    this.#deadlines.lift(this);
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  /** Answers the caller now with what is known. */
  giveUp(why: string, codeIfNeverHandedOver: "timeout" | "closed" | "aborted"): void {
    if (this.answered) return;
    this.#answer();
    const what = `message ${shownId(this.message.id)} to ${describeAddress(this.route.address)}`;
    this.#reject(
      this.#mayBeStored
        ? new MessagingError(
            "unconfirmed",
            `${what}: ${why} before the broker confirmed it; it may or may not be stored. Send it again with the same id, and let the consumer be idempotent`,
            this.#cause === undefined ? {} : { cause: this.#cause },
          )
        : this.#unsent(`${what}: ${why} before it was handed to the broker; it was not sent`, codeIfNeverHandedOver),
    );
    if (!this.inFlight) this.#onAbandoned(this);
  }

  #unsent(what: string, code: "timeout" | "closed" | "aborted"): MessagingError {
    if (code === "aborted") return new MessagingError(code, what, { cause: this.#signal?.reason });
    const down = this.#whyDown();
    if (down === undefined) {
      return new MessagingError(code, `${what}. Check the connection in broker.status() and send it again`);
    }
    const text = `${what}, since there is no connection: ${down.message}. Send it again once there is one`;
    return new MessagingError(code, text, { cause: down });
  }
}

/** The messages that wait for the adapter, in the order in which it may get them. */
interface Backlog {
  push(send: PendingSend): void;
  /** Takes the next batch, within limits; a first message over the byte limit goes alone. */
  take(maxMessages: number, maxBytes: number): PendingSend[];
  /** Ends a batch. Its messages in `again` are sent again, before all later ones. */
  finish(batch: readonly PendingSend[], again: readonly PendingSend[]): void;
  /** Counts a message that was answered while it waited. Such messages are dropped from time to time. */
  prune(): void;
}

/** Sends in the order of the calls. */
class PlainBacklog implements Backlog {
  readonly #waiting = new Fifo<PendingSend>();
  #answered = 0;
  #pruneAt = SPARE_BEFORE_PRUNING;

  push(send: PendingSend): void {
    this.#waiting.push(send);
  }

  take(maxMessages: number, maxBytes: number): PendingSend[] {
    return takeFrom(this.#waiting, [], maxMessages, maxBytes);
  }

  finish(_batch: readonly PendingSend[], again: readonly PendingSend[]): void {
    if (again.length > 0) this.#waiting.putBack(again);
  }

  prune(): void {
    dropAnswered(this.#waiting);
    if (++this.#answered < this.#pruneAt) return;
    dropAllAnswered(this.#waiting);
    this.#answered = 0;
    this.#pruneAt = Math.max(SPARE_BEFORE_PRUNING, this.#waiting.size);
  }
}

/**
 * Keeps the order of each key over failures: while messages of a key are in flight, no later one of it is sent. Messages
 * without a key have no order.
 */
class OrderedBacklog implements Backlog {
  readonly #byKey = new Map<string | undefined, Fifo<PendingSend>>();
  /** Keys with waiting messages and none in flight, in the order in which they became ready. */
  readonly #ready = new Set<string | undefined>();
  readonly #busy = new Set<string>();
  readonly #maxPerKey: number;
  #answered = 0;
  #pruneAt = SPARE_BEFORE_PRUNING;

  constructor(storesInOrder: boolean) {
    this.#maxPerKey = storesInOrder ? Number.POSITIVE_INFINITY : 1;
  }

  push(send: PendingSend): void {
    const { key } = send.message;
    this.#of(key).push(send);
    if (key === undefined || !this.#busy.has(key)) this.#ready.add(key);
  }

  take(maxMessages: number, maxBytes: number): PendingSend[] {
    const batch: PendingSend[] = [];
    for (const key of this.#ready) {
      const waiting = this.#of(key);
      const before = batch.length;
      const most = key === undefined ? maxMessages : Math.min(maxMessages, before + this.#maxPerKey);
      takeFrom(waiting, batch, most, maxBytes);
      if (waiting.size === 0) this.#byKey.delete(key);
      if (batch.length > before && key !== undefined) {
        this.#busy.add(key);
        this.#ready.delete(key);
      } else if (waiting.size === 0) {
        this.#ready.delete(key);
      } else {
        break; // The batch is full.
      }
      if (batch.length === maxMessages) break;
    }
    return batch;
  }

  finish(batch: readonly PendingSend[], again: readonly PendingSend[]): void {
    for (const { message } of batch) if (message.key !== undefined) this.#busy.delete(message.key);
    const returned = new Map<string | undefined, PendingSend[]>();
    for (const send of again) {
      const ofKey = returned.get(send.message.key);
      if (ofKey === undefined) returned.set(send.message.key, [send]);
      else ofKey.push(send);
    }
    for (const [key, sends] of returned) this.#of(key).putBack(sends);
    for (const { message } of batch) if (this.#byKey.has(message.key)) this.#ready.add(message.key);
  }

  prune(): void {
    if (++this.#answered < this.#pruneAt) return;
    let left = 0;
    for (const [key, waiting] of this.#byKey) {
      dropAllAnswered(waiting);
      left += waiting.size;
      if (waiting.size > 0) continue;
      this.#byKey.delete(key);
      this.#ready.delete(key);
    }
    this.#answered = 0;
    this.#pruneAt = Math.max(SPARE_BEFORE_PRUNING, left);
  }

  #of(key: string | undefined): Fifo<PendingSend> {
    let waiting = this.#byKey.get(key);
    if (waiting === undefined) {
      waiting = new Fifo();
      this.#byKey.set(key, waiting);
    }
    return waiting;
  }
}

function takeFrom(
  waiting: Fifo<PendingSend>,
  batch: PendingSend[],
  maxMessages: number,
  maxBytes: number,
): PendingSend[] {
  let bytes = 0;
  for (const send of batch) bytes += send.message.size;
  while (batch.length < maxMessages) {
    const next = waiting.peek();
    if (next === undefined) break;
    if (!next.answered) {
      if (batch.length > 0 && bytes + next.message.size > maxBytes) break;
      bytes += next.message.size;
      batch.push(next);
    }
    waiting.shift();
  }
  return batch;
}

function dropAnswered(waiting: Fifo<PendingSend>): void {
  while (waiting.peek()?.answered) waiting.shift();
}

function dropAllAnswered(waiting: Fifo<PendingSend>): void {
  const kept = [...waiting].filter((send) => !send.answered);
  if (kept.length === waiting.size) return;
  waiting.clear();
  waiting.putBack(kept);
}

/**
 * Batches the messages of one address without a timer, after the batcher of the Go CDK (gocloud.dev/pubsub/batcher).
 * Waiting messages go at once while the adapter takes more batches; otherwise they gather until a batch ends. A lone
 * message never waits, and batches grow with the load.
 *
 * After the result `unknown` a message is sent again under its id, before all later ones, after a short pause.
 */
export class Batcher {
  readonly #adapter: Adapter;
  readonly #address: Address;
  readonly #isOpen: () => boolean;
  readonly #clock: Clock;
  readonly #turn: EventLoopTurn;
  readonly #random: Random;
  readonly #backlog: Backlog;
  readonly #settled: (send: PendingSend) => void;
  #batchesInFlight = 0;
  #scheduled = false;
  #pause: Timer | undefined;
  #pauseMs = 0;

  /**
   * `isOpen` says whether the adapter may get messages now. `settled` is called once for each message that it reported on
   * and that is not sent again.
   */
  constructor(
    adapter: Adapter,
    { address, ordered }: Route,
    isOpen: () => boolean,
    clock: Clock,
    random: Random,
    settled: (send: PendingSend) => void,
  ) {
    this.#adapter = adapter;
    this.#address = address;
    this.#isOpen = isOpen;
    this.#clock = clock;
    this.#turn = new EventLoopTurn(clock);
    this.#random = random;
    this.#backlog = ordered ? new OrderedBacklog(adapter.sendLimits.storesInOrder === true) : new PlainBacklog();
    this.#settled = settled;
  }

  push(send: PendingSend): void {
    this.#backlog.push(send);
    this.schedule();
  }

  /** Sends waiting messages after the current turn, so that all calls of this turn share batches. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#turn.after(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Counts a message that was answered while it waited, so that the backlog drops it. */
  prune(): void {
    this.#backlog.prune();
  }

  /** Ends a pause, because the connection is new. */
  wake(): void {
    this.close();
    this.#pauseMs = 0;
    this.schedule();
  }

  /** Cancels the timer of a pause. */
  close(): void {
    if (this.#pause !== undefined) this.#clock.cancel(this.#pause);
    this.#pause = undefined;
  }

  #flush(): void {
    const { maxBatchMessages, maxBatchBytes, maxBatchesInFlight } = this.#adapter.sendLimits;
    while (this.#isOpen() && this.#pause === undefined && this.#batchesInFlight < maxBatchesInFlight) {
      const batch = this.#backlog.take(maxBatchMessages, maxBatchBytes);
      if (batch.length === 0) return;
      this.#send(batch);
    }
  }

  #send(batch: readonly PendingSend[]): void {
    this.#batchesInFlight++;
    const again: PendingSend[] = [];
    let left = batch.length;
    const report: SendReport = (index, result) => {
      const send = batch[index];
      if (left === 0 || send === undefined || !send.inFlight) return;
      if (send.take(result)) again.push(send);
      else {
        if (result.status === "confirmed") this.#pauseMs = 0;
        this.#settled(send);
      }
      if (--left === 0) this.#finish(batch, again);
    };
    for (const send of batch) send.handOver();
    try {
      this.#adapter.send(
        this.#address,
        batch.map((send) => send.message),
        report,
      );
    } catch (cause) {
      // A defect of the adapter, which must not end the process. What it has not reported on may be stored.
      for (let index = 0; index < batch.length; index++) report(index, { status: "unknown", cause });
    }
  }

  #finish(batch: readonly PendingSend[], again: PendingSend[]): void {
    this.#batchesInFlight--;
    if (again.length > 1) {
      // Results come in any order; messages are sent again in theirs.
      const returned = new Set(again);
      again = batch.filter((send) => returned.has(send));
    }
    this.#backlog.finish(batch, again);
    if (again.length > 0 && this.#isOpen()) this.#startPause();
    this.schedule();
  }

  #startPause(): void {
    if (this.#pause !== undefined) return;
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
    this.#pause = this.#clock.schedule(
      () => {
        this.#pause = undefined;
        this.schedule();
      },
      this.#pauseMs * (0.5 + this.#random.fraction() / 2),
    );
  }
}
