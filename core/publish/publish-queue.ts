import type { Adapter, OutgoingMessage, SendReport, SendResult } from "../adapter.ts";
import { type Address, describeAddress } from "../address.ts";
import type { Receipt } from "../broker.ts";
import { afterCurrentTurn, type Clock, type Random, type Timer } from "../clock.ts";
import type { Deadline, Deadlines, Expiring } from "../deadlines.ts";
import { MessagingError } from "../errors.ts";
import { Fifo } from "../fifo.ts";

/** The way to one address; kept by callers so that sending looks nothing up. */
export class Route {
  readonly address: Address;
  readonly ordered: boolean;
  /** Made when the first message goes; gone with the connection it was for. */
  batcher: Batcher | undefined = undefined;
  /** What the publish buffer holds for this address. */
  messages = 0;
  bytes = 0;
  /** Callers that wait for room in it. */
  readonly waiting = new Fifo<PendingSend>();
  waiters = 0;

  constructor(address: Address, ordered: boolean) {
    this.address = address;
    this.ordered = ordered;
  }
}

/** What a pending send tells its publisher, which keeps count. */
export interface SendObserver {
  /** The caller was answered, or gave up, while the message was nowhere but here. */
  abandoned(send: PendingSend): void;
}

/**
 * One accepted message and the caller waiting for it. It is answered exactly once: by the broker's result or by its
 * deadline, whichever is first, and the answer says what is known: never handed over (`timeout`), or handed over without
 * an answer (`unconfirmed`).
 */
export class PendingSend implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly route: Route;
  readonly message: OutgoingMessage;
  /** Whether the caller has been answered. */
  answered = false;
  /** Whether it counts against the buffer, rather than waiting for room. */
  admitted = false;
  /** Whether the adapter has it now. */
  inFlight = false;
  readonly #deadlines: Deadlines;
  readonly #observer: SendObserver;
  readonly #resolve: (receipt: Receipt) => void;
  readonly #reject: (error: MessagingError) => void;
  /** Whether the adapter ever had it: from then on, silence means unconfirmed. */
  #handedOver = false;
  /** Whether an earlier try ended without an answer: from then on, not even a refusal says that nothing is stored. */
  #unknown = false;
  #cause: unknown = undefined;

  constructor(
    route: Route,
    message: OutgoingMessage,
    deadlines: Deadlines,
    observer: SendObserver,
    resolve: (receipt: Receipt) => void,
    reject: (error: MessagingError) => void,
  ) {
    this.route = route;
    this.message = message;
    this.#deadlines = deadlines;
    this.#observer = observer;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  handOver(): void {
    this.inFlight = true;
    this.#handedOver = true;
  }

  /** Takes a result of the adapter. Returns whether the message is to be handed over again. */
  take(result: SendResult): boolean {
    this.inFlight = false;
    if (this.answered) return false;
    if (result.status === "unknown") {
      this.#unknown = true;
      this.#cause = result.cause;
      return true;
    }
    this.answered = true;
    this.#deadlines.lift(this);
    if (result.status === "confirmed") this.#resolve({ id: this.message.id });
    else this.#reject(this.#unknown ? this.#refusedAgain(result.error) : result.error);
    return false;
  }

  #refusedAgain(cause: MessagingError): MessagingError {
    const what = `message ${this.message.id} to ${describeAddress(this.route.address)}`;
    return new MessagingError(
      "unconfirmed",
      `${what}: an earlier try went unanswered and a later one was refused (${cause.code}); it may or may not be stored. See the cause, and send it again with the same id once that is mended`,
      { cause },
    );
  }

  expire(): void {
    this.giveUp("its deadline passed", "timeout");
  }

  /** Answers the caller now with what is known. */
  giveUp(why: string, codeIfNeverHandedOver: "timeout" | "closed"): void {
    if (this.answered) return;
    this.answered = true;
    this.#deadlines.lift(this);
    const what = `message ${this.message.id} to ${describeAddress(this.route.address)}`;
    const options = this.#cause === undefined ? {} : { cause: this.#cause };
    this.#reject(
      this.#handedOver
        ? new MessagingError(
            "unconfirmed",
            `${what}: ${why} before the broker confirmed it; it may or may not be stored. Send it again with the same id, and let the consumer be idempotent`,
            options,
          )
        : new MessagingError(
            codeIfNeverHandedOver,
            `${what}: ${why} before it was handed to the broker; it was not sent. Check the connection in broker.status() and send it again`,
            options,
          ),
    );
    if (!this.inFlight) this.#observer.abandoned(this);
  }
}

/** What waits to be handed to the adapter, in the order in which it may be. */
interface Backlog {
  push(send: PendingSend): void;
  /** Takes the next batch, within limits; a first message over the byte limit goes alone. */
  take(maxMessages: number, maxBytes: number): PendingSend[];
  /** A batch has come back: `again` are those of it to be handed over again, before anything later. */
  finish(batch: readonly PendingSend[], again: readonly PendingSend[]): void;
  /** One was answered while it waited. It is dropped sooner or later, together with others. */
  prune(): void;
}

/** So many answered ones may stay before the whole backlog is gone through. */
const SPARE_BEFORE_PRUNING = 64;

/** First come, first served. */
class PlainBacklog implements Backlog {
  readonly #waiting = new Fifo<PendingSend>();
  #answered = 0;
  #most = SPARE_BEFORE_PRUNING;

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
    if (++this.#answered < this.#most) return;
    dropAllAnswered(this.#waiting);
    this.#answered = 0;
    this.#most = Math.max(SPARE_BEFORE_PRUNING, this.#waiting.size);
  }
}

/**
 * Keeps the order of each key over failures: while messages of a key are in flight, no later one of it is handed over.
 * Messages without a key have no order to keep.
 */
class OrderedBacklog implements Backlog {
  readonly #byKey = new Map<string | undefined, Fifo<PendingSend>>();
  /** Keys with something waiting and nothing in flight, in the order they became so. */
  readonly #ready = new Set<string | undefined>();
  readonly #busy = new Set<string>();
  readonly #maxPerKey: number;
  #answered = 0;
  #most = SPARE_BEFORE_PRUNING;

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
    if (++this.#answered < this.#most) return;
    let left = 0;
    for (const [key, waiting] of this.#byKey) {
      dropAllAnswered(waiting);
      left += waiting.size;
      if (waiting.size > 0) continue;
      this.#byKey.delete(key);
      this.#ready.delete(key);
    }
    this.#answered = 0;
    this.#most = Math.max(SPARE_BEFORE_PRUNING, left);
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

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

/** Whether anything may be handed to the adapter now. */
export interface BatchGate {
  readonly open: boolean;
}

/**
 * Batches the messages of one address without a timer, after the batcher of the Go CDK (gocloud.dev/pubsub/batcher):
 * while fewer batches are in flight than the adapter wants, whatever is waiting goes at once; otherwise it gathers, and
 * a finished batch takes the next. A lone message waits for nothing, and batches grow with the load.
 *
 * A result of `unknown` puts the message back before all later ones, under its id, and pauses the address a little.
 */
export class Batcher {
  readonly #adapter: Adapter;
  readonly #address: Address;
  readonly #gate: BatchGate;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #backlog: Backlog;
  readonly #settled: (send: PendingSend) => void;
  #batchesInFlight = 0;
  #scheduled = false;
  #pause: Timer | undefined;
  #pauseMs = 0;

  /** `settled` is called once for each message that the adapter had and needs not be handed over again. */
  constructor(
    adapter: Adapter,
    address: Address,
    ordered: boolean,
    gate: BatchGate,
    clock: Clock,
    random: Random,
    settled: (send: PendingSend) => void,
  ) {
    this.#adapter = adapter;
    this.#address = address;
    this.#gate = gate;
    this.#clock = clock;
    this.#random = random;
    this.#backlog = ordered ? new OrderedBacklog(adapter.sendLimits.storesInOrder === true) : new PlainBacklog();
    this.#settled = settled;
  }

  push(send: PendingSend): void {
    this.#backlog.push(send);
    this.schedule();
  }

  /** Hands over what is waiting as soon as the callers of this turn have all been heard. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    afterCurrentTurn(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Lets go of messages that were answered while they waited. */
  prune(): void {
    this.#backlog.prune();
  }

  /** Ends a pause, because the connection is new. */
  wake(): void {
    this.close();
    this.#pauseMs = 0;
    this.schedule();
  }

  /** Takes back the timer of a pause. */
  close(): void {
    if (this.#pause !== undefined) this.#clock.cancel(this.#pause);
    this.#pause = undefined;
  }

  #flush(): void {
    const { maxBatchMessages, maxBatchBytes, maxBatchesInFlight } = this.#adapter.sendLimits;
    while (this.#gate.open && this.#pause === undefined && this.#batchesInFlight < maxBatchesInFlight) {
      const batch = this.#backlog.take(maxBatchMessages, maxBatchBytes);
      if (batch.length === 0) return;
      this.#hand(batch);
    }
  }

  #hand(batch: readonly PendingSend[]): void {
    this.#batchesInFlight++;
    const again: PendingSend[] = [];
    let left = batch.length;
    const report: SendReport = (index, result) => {
      const send = batch[index];
      if (left === 0 || send === undefined || !send.inFlight) return;
      if (this.#take(send, result)) again.push(send);
      if (--left === 0) this.#finish(batch, again);
    };
    for (const send of batch) send.handOver();
    this.#adapter.send(
      this.#address,
      batch.map((send) => send.message),
      report,
    );
  }

  #take(send: PendingSend, result: SendResult): boolean {
    if (send.take(result)) return true;
    if (result.status === "confirmed") this.#pauseMs = 0;
    this.#settled(send);
    return false;
  }

  #finish(batch: readonly PendingSend[], again: PendingSend[]): void {
    this.#batchesInFlight--;
    if (again.length > 1) {
      // Results come in any order; the messages go again in theirs.
      const returned = new Set(again);
      again = batch.filter((send) => returned.has(send));
    }
    this.#backlog.finish(batch, again);
    if (again.length > 0 && this.#gate.open) this.#rest();
    this.schedule();
  }

  #rest(): void {
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
