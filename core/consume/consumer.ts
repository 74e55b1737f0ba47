import type { DeliverySink, IncomingMessage, Settlement, SettleResult } from "../adapter.ts";
import type { WorkAddress } from "../address.ts";
import type { Consumer, ConsumerStatus } from "../broker.ts";
import { checkInteger } from "../checks.ts";
import { type Clock, Conditions, EventLoopTurn, pause, StopTime } from "../clock.ts";
import { MessagingError } from "../errors.ts";
import type { PauseOptions, StopOptions } from "../options.ts";
import { type NextStep, OutcomeHandler } from "./apply-outcome.ts";
import { type ConsumerContext, ConsumerHealth, type Counts, noCounts } from "./consumer-context.ts";
import type { CopyRefusal } from "./copies.ts";
import { InFlightDeliveries, type InFlightDelivery } from "./in-flight.ts";
import { type DeliveryQueue, KeyQueues, UnorderedQueue } from "./key-queues.ts";
import { Quarantine, type QuarantineDecision } from "./quarantine.ts";
import { ConsumerReceiver } from "./receiver.ts";
import { type AttemptResult, HandlerRunner } from "./run-handler.ts";

export const DEFAULT_STOP_MS = 30_000;
/** How long aborted handlers have to end before their messages are requeued. */
const ABORT_GRACE_MS = 1_000;
/** How long the last settlements may take before the receiver is closed. */
const SETTLE_GRACE_MS = 5_000;

/**
 * The consumer engine: everything between an adapter's deliveries and the handler. A delivery waits in a queue, runs in
 * a handler, and follows the step that its outcome leads to.
 */
export class ConsumerEngine implements Consumer {
  readonly source: WorkAddress;
  readonly #context: ConsumerContext;
  readonly #queues: DeliveryQueue;
  readonly #inFlight: InFlightDeliveries;
  readonly #handlers: HandlerRunner;
  readonly #outcomes: OutcomeHandler;
  readonly #conditions: Conditions;
  readonly #counts: Counts = noCounts();
  readonly #health: ConsumerHealth;
  readonly #parked: ParkedDeliveries;
  readonly #quarantine: Quarantine;
  #state: "new" | "running" | "stopping" | "stopped" = "new";
  #paused = false;
  #concurrency: number;
  #receiver: ConsumerReceiver | undefined;
  readonly #turn: EventLoopTurn;
  #pumping = false;
  #pumpsLater = false;
  #opening: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #stopTime: StopTime;
  #ended = false;

  constructor(context: ConsumerContext) {
    this.source = context.source;
    this.#context = context;
    this.#concurrency = context.concurrency;
    this.#queues = context.ordered ? new KeyQueues() : new UnorderedQueue();
    this.#conditions = new Conditions(context.clock);
    this.#turn = new EventLoopTurn(context.clock);
    this.#stopTime = new StopTime(context.clock);
    this.#health = new ConsumerHealth(context);
    this.#inFlight = new InFlightDeliveries(
      context,
      () => this.#concurrency,
      (delivery) => this.#handlers.overrun(delivery),
    );
    this.#handlers = new HandlerRunner(context, this.#counts, (delivery, result, aborted) =>
      this.#attemptOver(delivery, result, aborted),
    );
    this.#outcomes = new OutcomeHandler(context, this.#counts, () => this.#receiver);
    this.#parked = new ParkedDeliveries(context, this.#health);
    this.#quarantine = new Quarantine(
      context,
      (delivery, decision) => this.#leaveQuarantine(delivery, decision),
      () => this.#pump(),
    );
  }

  /** Whether it was stopped for good: it never consumes again. */
  get gone(): boolean {
    return this.#ended && this.#state === "stopped";
  }

  /** Whether `stop` was called on the consumer itself. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Opens the receiver. Rejects if it cannot be opened. */
  start(): Promise<void> {
    this.#state = "running";
    this.#health.flowing();
    this.#stopping = undefined;
    this.#stopTime = new StopTime(this.#context.clock);
    this.#outcomes.start();
    this.#quarantine.start();
    const opening = this.#open();
    this.#opening = opening.catch(() => {});
    return opening;
  }

  async #open(): Promise<void> {
    try {
      const receiver = await ConsumerReceiver.open(
        this.#context,
        this.#inFlight,
        this.#prefetch(),
        this.#sink(),
        (delivery, action, result) => this.#settled(delivery, action, result),
      );
      if (this.#state === "stopped") {
        await receiver.close();
        this.#dropAll();
        return;
      }
      this.#receiver = receiver;
      this.#pump();
    } catch (error) {
      this.#dropAll();
      throw error;
    }
  }

  stall(cause: unknown): void {
    this.#health.stalled(cause);
  }

  pause({ requeue = false }: PauseOptions = {}): void {
    this.#paused = true;
    this.#applyPrefetch();
    if (requeue) this.#requeueIdle();
  }

  resume(): void {
    this.#paused = false;
    this.retryParked();
    this.#pump();
  }

  /** Tries parked deliveries and failed quarantine records again now, because the connection is back. */
  retryParked(): void {
    this.#parked.retry("all");
    this.#quarantine.retry();
  }

  setConcurrency(count: number): void {
    checkInteger("setConcurrency(count)", count, 1);
    this.#concurrency = count;
    this.#pump();
  }

  stop({ timeoutMs = DEFAULT_STOP_MS }: StopOptions = {}): Promise<void> {
    checkInteger("stop { timeoutMs }", timeoutMs, 0);
    this.#ended = true;
    return this.halt(timeoutMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** As `stop`, but it may be started again. A later call may shorten the time that an earlier one has. */
  halt(timeoutMs: number): Promise<void> {
    if (this.#state === "new") this.#state = "stopped";
    if (this.#state === "stopped") return Promise.resolve();
    this.#stopTime.limit(timeoutMs);
    this.#stopping ??= this.#drain(this.#stopTime);
    return this.#stopping;
  }

  status(): ConsumerStatus {
    return {
      source: this.#context.sourceName,
      state: this.#visibleState(),
      error: this.#health.error,
      concurrency: this.#concurrency,
      prefetch: this.#receiver?.prefetch ?? 0,
      leaseMs: this.#receiver?.leaseMs,
      running: this.#handlers.running,
      waiting: this.#inFlight.count("waiting", "retrying"),
      unsettled: this.#inFlight.size,
      parked: this.#parked.size,
      quarantined: this.#inFlight.count("quarantined"),
      ...this.#counts,
    };
  }

  #visibleState(): ConsumerStatus["state"] {
    if (this.#state === "stopping" || this.#state === "stopped") return this.#state;
    if (this.#health.error !== undefined) return "stalled";
    if (this.#state === "new") return "new";
    return this.#paused ? "paused" : "running";
  }

  // 1. Deliveries come in, and may be lost or revoked.

  #sink(): DeliverySink {
    return {
      deliver: (batch) => this.#deliver(batch),
      lost: (tokens, cause) => this.#lose(tokens, cause),
      revoke: (tokens) => this.#revoke(tokens),
      stalled: (cause) => this.#health.stalled(cause),
      flowing: () => this.#health.flowing(),
      filtered: (count) => {
        this.#counts.filtered += count;
      },
      overdue: (tokens, cause) => this.#overdue(tokens, cause),
    };
  }

  #deliver(batch: readonly IncomingMessage[]): void {
    this.#health.flowing();
    for (const incoming of batch) this.#queues.push(this.#inFlight.add(incoming));
    if (this.#state === "stopping") this.#requeueWaiting();
    else this.#pump();
  }

  #lose(tokens: readonly unknown[] | "all", cause: MessagingError): void {
    for (const delivery of this.#inFlight.chosen(tokens)) {
      delivery.lost = true;
      delivery.abort(cause);
      this.#quarantine.ended(delivery);
      // A handler, a copy or a settlement under way ends by itself.
      const { state, wakeTimer } = delivery;
      if (state === "waiting" || state === "quarantined" || wakeTimer !== undefined) this.#drop(delivery);
      if (tokens !== "all") this.#requeueBehind(delivery);
    }
    this.#pump();
  }

  #revoke(tokens: readonly unknown[]): void {
    for (const delivery of this.#inFlight.chosen(tokens)) {
      delivery.revoked = true;
      if (delivery.isIdle) this.#requeue(delivery);
    }
    this.#pump();
  }

  /** Waiting deliveries go first, because the end of an attempt starts the next one. */
  #overdue(tokens: readonly unknown[], cause: MessagingError): void {
    this.#revoke(tokens);
    for (const delivery of this.#inFlight.chosen(tokens)) this.#handlers.overrun(delivery, cause);
  }

  /** Later deliveries of a lost one's key would pass it; requeued, they come again behind it. */
  #requeueBehind({ incoming: { key }, sequence }: InFlightDelivery): void {
    if (!this.#context.ordered || key === undefined) return;
    for (const other of this.#inFlight) {
      if (other.state === "waiting" && other.incoming.key === key && other.sequence > sequence) this.#requeue(other);
    }
  }

  // 2. Handlers start.

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#state === "running" && !this.#paused && this.#receiver !== undefined) {
      if (this.#turn.isLong) {
        this.#pumpLater();
        break;
      }
      const delivery = this.#next();
      if (delivery === undefined) break;
      if (this.#quarantine.holds(delivery)) this.#inFlight.exempt(delivery);
      else this.#begin(delivery);
    }
    this.#pumping = false;
    this.#applyPrefetch();
    this.#conditions.check();
  }

  /** Handlers that return at once would keep timers, I/O and signals waiting for the whole of a backlog. */
  #pumpLater(): void {
    if (this.#pumpsLater) return;
    this.#pumpsLater = true;
    this.#turn.next(() => {
      this.#pumpsLater = false;
      this.#pump();
    });
  }

  #next(): InFlightDelivery | undefined {
    const delivery = this.#hasFreeHandler && !this.#quarantine.isReserved ? this.#queues.take() : undefined;
    return delivery ?? (this.#busyHandlers === 0 ? this.#quarantine.takeAlone() : undefined);
  }

  #begin(delivery: InFlightDelivery): void {
    this.#inFlight.rejoin(delivery);
    this.#handlers.start(delivery);
  }

  /** Handlers that run or are about to start. */
  get #busyHandlers(): number {
    return this.#handlers.running + this.#quarantine.starting;
  }

  get #hasFreeHandler(): boolean {
    return this.#busyHandlers < this.#concurrency;
  }

  #leaveQuarantine(delivery: InFlightDelivery, decision: QuarantineDecision): void {
    if (decision === "condemned") {
      this.#inFlight.rejoin(delivery);
      const what = `its consumers crashed ${delivery.crashes} times while they handled it`;
      const error = new MessagingError("refused", what);
      this.#follow(delivery, this.#outcomes.apply(delivery, { kind: "dead", reason: "crashed", error }));
    } else if (decision === "cleared") {
      if (!delivery.mustBeAlone) this.#queues.again(delivery);
    } else {
      const isFree = decision === "start" || (!delivery.mustBeAlone && this.#hasFreeHandler);
      if (this.#state === "running" && !this.#paused && isFree) this.#begin(delivery);
      else {
        this.#quarantine.putBack(delivery);
        this.#queues.again(delivery);
      }
    }
    this.#pump();
  }

  // 3. An attempt ends, and its outcome says what follows.

  #attemptOver(delivery: InFlightDelivery, result: AttemptResult, aborted: boolean): void {
    this.#quarantine.ended(delivery);
    if (delivery.lost) {
      this.#counts.fenced++;
      this.#drop(delivery);
    } else if (this.#state === "stopping" && aborted && result.kind === "failed") {
      this.#requeue(delivery);
    } else {
      this.#follow(delivery, this.#outcomes.apply(delivery, result));
    }
    this.#pump();
  }

  #follow(delivery: InFlightDelivery, next: NextStep | Promise<NextStep>): void {
    if (!(next instanceof Promise)) {
      this.#take(delivery, next);
      return;
    }
    next.then((step) => {
      this.#take(delivery, step);
      this.#pump();
    });
  }

  #take(delivery: InFlightDelivery, step: NextStep): void {
    if (step.kind === "none") return;
    if (step.kind === "ack" || step.kind === "drop") {
      if (step.deadLettered) this.#parked.retry("not refused for what they are");
      if (step.kind === "ack") this.#ack(delivery);
      else this.#drop(delivery);
    } else if (this.#keeps(delivery)) {
      if (step.kind === "park") this.#park(delivery, step.refusal, step.again);
      else this.#retryHere(delivery, step);
    }
  }

  /** Whether a delivery may stay here for another try; otherwise it leaves. */
  #keeps(delivery: InFlightDelivery): boolean {
    if (delivery.isLeaving) return false;
    const kept = this.#state === "running" && !delivery.revoked && !delivery.lost;
    if (!kept) this.#requeue(delivery);
    return kept;
  }

  #retryHere(delivery: InFlightDelivery, step: Extract<NextStep, { kind: "retry-here" }>): void {
    if (step.exempt) this.#inFlight.exempt(delivery);
    delivery.state = "retrying";
    delivery.wakeAfter(this.#context.clock, step.delayMs, () => {
      delivery.state = "waiting";
      delivery.attempt = step.attempt;
      this.#inFlight.rejoin(delivery);
      this.#queues.again(delivery);
      this.#pump();
    });
  }

  #park(delivery: InFlightDelivery, refusal: CopyRefusal, again: () => Promise<NextStep>): void {
    delivery.state = "parked";
    this.#inFlight.exempt(delivery);
    this.#parked.add(delivery, refusal, () => this.#follow(delivery, again()));
  }

  // 4. Deliveries leave: settled, requeued or lost.

  #ack(delivery: InFlightDelivery): void {
    // Its copy may be confirmed after it was requeued.
    if (delivery.isLeaving) return;
    if (delivery.lost) {
      this.#counts.fenced++;
      this.#drop(delivery);
    } else {
      this.#queues.leave(delivery);
      this.#receiver?.settle(delivery, "ack");
    }
  }

  #requeue(delivery: InFlightDelivery): void {
    if (delivery.isLeaving) return;
    delivery.cancelWake(this.#context.clock);
    if (delivery.lost) {
      this.#drop(delivery);
      return;
    }
    this.#quarantine.ended(delivery);
    this.#queues.leave(delivery);
    this.#receiver?.settle(delivery, "requeue");
  }

  #requeueIdle(): void {
    for (const delivery of this.#inFlight) if (delivery.isIdle) this.#requeue(delivery);
  }

  #requeueWaiting(): void {
    this.#queues.drain();
    this.#requeueIdle();
  }

  #settled(delivery: InFlightDelivery, action: Settlement["action"], result: SettleResult): void {
    if (result === "fenced") this.#counts.fenced++;
    else if (action === "requeue") this.#counts.requeued++;
    this.#forget(delivery);
    this.#pump();
  }

  /** Without a settlement: it is lost, or settled already. */
  #drop(delivery: InFlightDelivery): void {
    this.#queues.leave(delivery);
    this.#forget(delivery);
  }

  #dropAll(): void {
    this.#queues.drain();
    for (const delivery of this.#inFlight) this.#forget(delivery);
  }

  #forget(delivery: InFlightDelivery): void {
    delivery.cancelWake(this.#context.clock);
    this.#parked.remove(delivery);
    this.#quarantine.ended(delivery);
    this.#inFlight.remove(delivery);
  }

  #prefetch(): number {
    return this.#paused ? 0 : this.#inFlight.prefetch();
  }

  #applyPrefetch(): void {
    if (this.#state !== "running") return;
    if (this.#isStarved) this.#inFlight.widen();
    this.#receiver?.setPrefetch(this.#prefetch());
  }

  /** Whether handlers are free and all deliveries here wait for their keys. */
  get #isStarved(): boolean {
    return this.#context.ordered && !this.#paused && !this.#quarantine.isReserved && this.#hasFreeHandler;
  }

  async #drain(time: StopTime): Promise<void> {
    this.#state = "stopping";
    await this.#conditions.settled(this.#opening, time);
    this.#receiver?.setPrefetch(0);
    this.#requeueWaiting();
    const isDrained = (): boolean => this.#handlers.running === 0 && this.#inFlight.count("copying") === 0;
    await this.#conditions.until(isDrained, time);
    this.#outcomes.stop();
    const reason = new MessagingError("closed", `the consumer of ${this.#context.sourceName} was stopped`);
    for (const delivery of this.#inFlight) delivery.abort(reason);
    await this.#conditions.until(() => this.#handlers.running === 0, ABORT_GRACE_MS);
    for (const delivery of this.#inFlight) {
      this.#handlers.leaveBehind(delivery);
      if (delivery.state === "running" || delivery.state === "copying") this.#requeue(delivery);
    }
    await this.#conditions.until(() => this.#inFlight.size === 0 && this.#quarantine.isSettled, SETTLE_GRACE_MS);
    this.#quarantine.stop();
    await this.#receiver?.close();
    this.#receiver = undefined;
    this.#dropAll();
    this.#handlers.clear();
    this.#state = "stopped";
  }
}

const FIRST_PARKED_MS = 30_000;
const LONGEST_PARKED_MS = 600_000;

interface Parked {
  readonly refusal: CopyRefusal;
  readonly pauseMs: number;
  readonly again: () => void;
}

/** Deliveries whose dead letter nothing takes. Each is tried again at growing intervals, or at once by `retry`. */
class ParkedDeliveries {
  readonly #context: ConsumerContext;
  readonly #health: ConsumerHealth;
  readonly #parked = new Map<InFlightDelivery, Parked>();

  constructor(context: ConsumerContext, health: ConsumerHealth) {
    this.#context = context;
    this.#health = health;
  }

  get size(): number {
    return this.#parked.size;
  }

  /** Parks a delivery, also again after a failed try. */
  add(delivery: InFlightDelivery, refusal: CopyRefusal, again: () => void): void {
    const before = this.#parked.get(delivery);
    const pauseMs = before === undefined ? FIRST_PARKED_MS : Math.min(before.pauseMs * 2, LONGEST_PARKED_MS);
    this.#parked.set(delivery, { refusal, pauseMs, again });
    this.#health.parked(refusal.error);
    const { clock, random } = this.#context;
    delivery.wakeAfter(clock, pauseMs * (1 + random.fraction()), again);
  }

  /** Tries again now; deliveries whose try is under way are left alone. */
  retry(which: "all" | "not refused for what they are"): void {
    for (const [delivery, { refusal, again }] of [...this.#parked]) {
      if (delivery.wakeTimer === undefined || (which !== "all" && refusal.kind === "message")) continue;
      delivery.cancelWake(this.#context.clock);
      again();
    }
  }

  /** Does nothing for a delivery that is not parked. */
  remove(delivery: InFlightDelivery): void {
    if (!this.#parked.delete(delivery)) return;
    const last = [...this.#parked.values()].at(-1);
    this.#health.parked(last?.refusal.error);
  }
}

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Prepares and starts a consumer, again and again with growing pauses, until it runs, or is stopped, or `signal` aborts.
 * Never rejects: failures stall the consumer.
 */
export async function keepStarting(
  consumer: ConsumerEngine,
  clock: Clock,
  prepare: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const isOver = (): boolean => signal.aborted || consumer.ended;
  for (let pauseMs = FIRST_PAUSE_MS; !isOver(); pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      await prepare();
      if (!isOver()) await consumer.start();
      return;
    } catch (error) {
      if (isOver()) return;
      consumer.stall(error);
      await pause(clock, pauseMs, signal);
    }
  }
}
