import type { DeliverySink, IncomingMessage, Settlement, SettleResult } from "../adapter.ts";
import type { WorkAddress } from "../address.ts";
import { checkInteger } from "../checks.ts";
import { type Clock, Conditions, EventLoopTurn, type Timer } from "../clock.ts";
import type { Consumer, ConsumerStatus } from "../consumer.ts";
import { MessagingError } from "../errors.ts";
import type { PauseOptions, StopOptions } from "../options.ts";
import { OutcomeHandler, type OutcomeOwner, ParkedDeliveries, Settlements } from "./apply-outcome.ts";
import { type ConsumerContext, ConsumerHealth, type Counts, noCounts } from "./consumer-context.ts";
import type { CopyRefusal } from "./copies.ts";
import { InFlightDeliveries, type InFlightDelivery } from "./in-flight.ts";
import { type DeliveryQueue, KeyQueues, UnorderedQueue } from "./key-queues.ts";
import { Quarantine, type QuarantineActions } from "./quarantine.ts";
import { ConsumerReceiver, type ReceiverOwner } from "./receiver.ts";
import { type AttemptResult, Handlers } from "./run-handler.ts";

export const DEFAULT_STOP_MS = 30_000;
/** How long aborted handlers have to come to an end before their messages are given back. */
const ABORT_GRACE_MS = 1_000;
/** How long the last settlements may take before the receivers are closed over them. */
const SETTLE_GRACE_MS = 5_000;

/** The consumer engine: everything between an adapter's deliveries and the handler. */
export class ConsumerEngine implements Consumer, ReceiverOwner, OutcomeOwner, QuarantineActions {
  readonly source: WorkAddress;
  readonly #context: ConsumerContext;
  readonly #queues: DeliveryQueue;
  readonly #held: InFlightDeliveries;
  readonly #handlers: Handlers;
  readonly #outcomes: OutcomeHandler;
  readonly #conditions: Conditions;
  readonly #counts: Counts = noCounts();
  #state: "new" | "running" | "stopping" | "stopped" = "new";
  #paused = false;
  readonly #health: ConsumerHealth;
  readonly #parked: ParkedDeliveries;
  readonly #quarantine: Quarantine;
  readonly #settlements: Settlements;
  #concurrency: number;
  #receiver: ConsumerReceiver | undefined;
  readonly #turn: EventLoopTurn;
  #pumping = false;
  #pumpsLater = false;
  #opening: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #ended = false;

  constructor(context: ConsumerContext) {
    this.source = context.source;
    this.#context = context;
    this.#held = new InFlightDeliveries(
      context,
      () => this.#concurrency,
      (held) => this.#handlers.overrun(held),
    );
    this.#queues = context.ordered ? new KeyQueues() : new UnorderedQueue();
    this.#handlers = new Handlers(context, this.#counts, (held, result, aborted) => this.#over(held, result, aborted));
    this.#conditions = new Conditions(context.clock);
    this.#turn = new EventLoopTurn(context.clock);
    this.#health = new ConsumerHealth(context);
    this.#parked = new ParkedDeliveries(context, this.#health);
    this.#quarantine = new Quarantine(context, this);
    const [queues, held, parked, counts] = [this.#queues, this.#held, this.#parked, this.#counts];
    const [receiver, changed, quarantine] = [() => this.#receiver, () => this.#pump(), this.#quarantine];
    this.#settlements = new Settlements(context, { queues, held, parked, quarantine, counts, receiver, changed });
    this.#outcomes = new OutcomeHandler(context, { counts, parked, settlements: this.#settlements }, this);
    this.#concurrency = context.concurrency;
  }

  /** Whether nothing will ever come of it again. */
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
    this.#outcomes.start();
    this.#quarantine.start();
    const opening = this.#open();
    this.#opening = opening.catch(() => {});
    return opening;
  }

  async #open(): Promise<void> {
    try {
      const receiver = await ConsumerReceiver.open(this.#context, this.#prefetch(), this.#sink(), this);
      if (this.#state === "stopped") {
        await receiver.close();
        this.#settlements.dropAll();
        return;
      }
      this.#receiver = receiver;
      this.#pump();
    } catch (error) {
      this.#settlements.dropAll();
      throw error;
    }
  }

  stall(cause: unknown): void {
    this.#health.stalled(cause);
  }

  pause({ requeue = false }: PauseOptions = {}): void {
    this.#paused = true;
    this.#applyPrefetch();
    if (requeue) this.#settlements.requeueIdle();
  }

  resume(): void {
    this.#paused = false;
    this.retryParked();
    this.#pump();
  }

  /** Tries now what is parked, and what could not be said to other consumers: the connection is back. */
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

  /** As `stop`, but it may be started again. */
  halt(timeoutMs: number): Promise<void> {
    if (this.#state === "new") this.#state = "stopped";
    if (this.#state === "stopped") return Promise.resolve();
    this.#stopping ??= this.#drain(timeoutMs);
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
      waiting: this.#held.waiting(),
      unsettled: this.#held.size,
      parked: this.#parked.size,
      quarantined: this.#held.quarantined(),
      ...this.#counts,
    };
  }

  #visibleState(): ConsumerStatus["state"] {
    if (this.#state === "stopping" || this.#state === "stopped") return this.#state;
    if (this.#health.error !== undefined) return "stalled";
    if (this.#state === "new") return "new";
    return this.#paused ? "paused" : "running";
  }

  // Deliveries come in.

  #sink(): DeliverySink {
    return {
      deliver: (batch) => this.#deliver(batch),
      lost: (tokens, cause) => this.#lose(tokens, cause),
      revoke: (tokens) => this.#revoke(tokens),
      stalled: (cause) => this.#health.stalled(cause),
      flowing: () => this.#health.flowing(),
      filtered: (count) => this.#outcomes.filtered(count),
      overdue: (tokens, cause) => this.#overdue(tokens, cause),
    };
  }

  #deliver(batch: readonly IncomingMessage[]): void {
    this.#health.flowing();
    for (const incoming of batch) this.#queues.push(this.#held.add(incoming));
    if (this.#state === "stopping") this.#releaseWaiting();
    else this.#pump();
  }

  #lose(tokens: readonly unknown[] | "all", cause: MessagingError): void {
    for (const held of this.#held.chosen(tokens)) {
      this.#loseOne(held, cause);
      if (tokens !== "all") this.#releaseBehind(held);
    }
    this.#pump();
  }

  #revoke(tokens: readonly unknown[]): void {
    for (const held of this.#held.chosen(tokens)) {
      held.revoked = true;
      if (held.isIdle) this.#settlements.requeue(held);
    }
    this.#pump();
  }

  /** What waits goes first: the end of an attempt starts the next. */
  #overdue(tokens: readonly unknown[], cause: MessagingError): void {
    this.#revoke(tokens);
    for (const held of this.#held.chosen(tokens)) this.#handlers.overrun(held, cause);
  }

  #loseOne(held: InFlightDelivery, cause: MessagingError): void {
    if (held.lost) return;
    held.lost = true;
    held.abort(cause);
    this.#quarantine.ended(held);
    // A handler, a copy or a settlement under way comes to its own end.
    if (held.state === "waiting" || held.state === "quarantined" || held.rest !== undefined)
      this.#settlements.drop(held);
  }

  /** What waits behind one that was lost alone would pass it; given back, it comes again behind it. */
  #releaseBehind(lost: InFlightDelivery): void {
    const { key } = lost.incoming;
    if (!this.#context.ordered || key === undefined) return;
    for (const held of this.#held) {
      if (held.state === "waiting" && held.incoming.key === key && held.sequence > lost.sequence)
        this.#settlements.requeue(held);
    }
  }

  leaseLost(held: InFlightDelivery): void {
    if (held.state === "settled") return;
    const what = `the lease on message ${held.incoming.id} of ${this.#context.sourceName} was lost`;
    this.#loseOne(held, new MessagingError("timeout", `${what}; it will be delivered again`));
    this.#releaseBehind(held);
    this.#pump();
  }

  // Handlers start.

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#state === "running" && !this.#paused && this.#receiver !== undefined) {
      if (this.#turn.isLong) {
        this.#pumpLater();
        break;
      }
      const held = this.#next();
      if (held === undefined) break;
      if (this.#quarantine.holds(held)) this.#held.setAside(held);
      else this.#begin(held);
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

  #begin(held: InFlightDelivery): void {
    this.#held.rejoin(held);
    this.#handlers.start(held);
  }

  #next(): InFlightDelivery | undefined {
    const running = this.#handlers.running + this.#quarantine.starting;
    const isFree = running < this.#concurrency && !this.#quarantine.isReserved;
    const held = isFree ? this.#queues.take() : undefined;
    return held ?? (running === 0 ? this.#quarantine.takeAlone() : undefined);
  }

  cleared(held: InFlightDelivery): void {
    if (!held.mustBeAlone) this.#queues.again(held);
    this.#pump();
  }

  admit(held: InFlightDelivery, hasPlace: boolean): void {
    const running = this.#handlers.running + this.#quarantine.starting;
    const isFree = hasPlace || (!held.mustBeAlone && running < this.#concurrency);
    if (this.#state === "running" && !this.#paused && isFree) this.#begin(held);
    else {
      this.#quarantine.putBack(held);
      this.#queues.again(held);
    }
    this.#pump();
  }

  condemn(held: InFlightDelivery): void {
    this.#held.rejoin(held);
    const error = new MessagingError("refused", `its consumers crashed ${held.crashes} times while they handled it`);
    this.#outcomes.apply(held, { kind: "dead", reason: "crashed", error });
    this.#pump();
  }

  changed = (): void => this.#pump();

  #over(held: InFlightDelivery, result: AttemptResult, aborted: boolean): void {
    this.#quarantine.ended(held);
    if (held.lost) {
      this.#counts.fenced++;
      this.#settlements.drop(held);
    } else if (this.#state === "stopping" && aborted && result.kind === "failed") {
      this.#settlements.requeue(held);
    } else {
      this.#outcomes.apply(held, result);
    }
    this.#pump();
  }

  rest(held: InFlightDelivery, delayMs: number, aside: boolean): void {
    if (!this.#keeps(held)) return;
    if (aside) this.#held.setAside(held);
    this.#later(held, delayMs, () => {
      this.#held.rejoin(held);
      held.attempt++;
      this.#queues.again(held);
    });
    this.#pump();
  }

  park(held: InFlightDelivery, refusal: CopyRefusal, again: () => void): void {
    if (!this.#keeps(held)) return;
    held.state = "parked";
    this.#held.setAside(held);
    this.#parked.add(held, refusal, again);
    this.#pump();
  }

  /** Whether it may stay here for another try; else it is given back. */
  #keeps(held: InFlightDelivery): boolean {
    if (held.isLeaving) return false;
    const kept = this.#state === "running" && !held.revoked;
    if (!kept) this.#settlements.requeue(held);
    return kept;
  }

  #later(held: InFlightDelivery, ms: number, wake: () => void): void {
    held.state = "resting";
    held.rest = this.#context.clock.schedule(() => {
      held.rest = undefined;
      held.state = "waiting";
      wake();
      this.#pump();
    }, ms);
  }

  // Deliveries leave.

  settled(held: InFlightDelivery, action: Settlement["action"], result: SettleResult): void {
    this.#settlements.settled(held, action, result);
  }

  leased(): readonly InFlightDelivery[] {
    return this.#held.owned();
  }

  #prefetch = (): number => (this.#paused ? 0 : this.#held.prefetch());

  #applyPrefetch(): void {
    if (this.#state !== "running") return;
    if (this.#isStarved) this.#held.widen();
    this.#receiver?.setPrefetch(this.#prefetch());
  }

  /** Whether handlers are free and nothing that is held may start: keys wait for their turn. */
  get #isStarved(): boolean {
    const isOpen = this.#context.ordered && !this.#paused && !this.#quarantine.isReserved;
    return isOpen && this.#handlers.running + this.#quarantine.starting < this.#concurrency;
  }

  #releaseWaiting(): void {
    this.#queues.drain();
    this.#settlements.requeueIdle();
  }

  async #drain(timeoutMs: number): Promise<void> {
    this.#state = "stopping";
    await this.#conditions.settled(this.#opening, timeoutMs);
    this.#receiver?.setPrefetch(0);
    this.#releaseWaiting();
    await this.#conditions.until(() => this.#handlers.running === 0 && !this.#held.copying(), timeoutMs);
    this.#outcomes.stop();
    const reason = new MessagingError("closed", `the consumer of ${this.#context.sourceName} was stopped`);
    for (const held of this.#held) held.abort(reason);
    await this.#conditions.until(() => this.#handlers.running === 0, ABORT_GRACE_MS);
    for (const held of this.#held) this.#leaveBehind(held);
    await this.#conditions.until(() => this.#held.size === 0 && this.#quarantine.isSettled, SETTLE_GRACE_MS);
    this.#quarantine.stop();
    await this.#receiver?.close();
    this.#receiver = undefined;
    this.#settlements.dropAll();
    this.#handlers.clear();
    this.#state = "stopped";
  }

  /** Gives back what a handler or a copy would not let go of in time. */
  #leaveBehind(held: InFlightDelivery): void {
    this.#handlers.leaveBehind(held);
    if (held.state === "running" || held.state === "copying") this.#settlements.requeue(held);
  }
}

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/** Starts a consumer, and tries again with growing pauses, until it runs or is stopped. */
export class StartKeeper {
  readonly #consumer: ConsumerEngine;
  readonly #clock: Clock;
  readonly #prepare: () => Promise<void>;
  readonly #ended: () => void;
  #timer: Timer | undefined;
  #stopped = false;

  /** `prepare` is done before each try; `ended` is called once it runs, or is not to. */
  constructor(consumer: ConsumerEngine, clock: Clock, prepare: () => Promise<void>, ended: () => void) {
    this.#consumer = consumer;
    this.#clock = clock;
    this.#prepare = prepare;
    this.#ended = ended;
  }

  begin(pauseMs = FIRST_PAUSE_MS): void {
    this.#try().then(this.#ended, (error: unknown) => {
      if (this.#over()) {
        this.#ended();
        return;
      }
      this.#consumer.stall(error);
      const longer = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      this.#timer = this.#clock.schedule(() => this.begin(longer), pauseMs);
    });
  }

  async #try(): Promise<void> {
    if (this.#over()) return;
    await this.#prepare();
    if (!this.#over()) await this.#consumer.start();
  }

  #over(): boolean {
    return this.#stopped || this.#consumer.ended;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
  }
}
