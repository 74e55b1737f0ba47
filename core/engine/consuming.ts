import type { DeliverySink, IncomingMessage, Settlement, SettleResult } from "../adapter.ts";
import type { Consumer, ConsumerStatus } from "../consumer.ts";
import { MessagingError } from "../errors.ts";
import { checkInteger } from "../names.ts";
import type { PauseOptions, StopOptions } from "../options.ts";
import { Aftermath, type AftermathOwner, type Counts, noCounts } from "./aftermath.ts";
import { Apart } from "./apart.ts";
import type { Verdict } from "./attempt.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { CopyRefusal } from "./copy-refusal.ts";
import { Departures } from "./departures.ts";
import { Flow } from "./flow.ts";
import { Handlers } from "./handlers.ts";
import type { HeldDelivery } from "./held-delivery.ts";
import { Holding } from "./holding.ts";
import type { Intake, IntakeOwner } from "./intake.ts";
import { type Intakes, openIntakes } from "./intakes.ts";
import { KeyedLanes, type Lanes, OpenLanes } from "./lanes.ts";
import { Parking } from "./parking.ts";
import { Quiet } from "./quiet.ts";

export const DEFAULT_STOP_MS = 30_000;
/** How long a suspect waits before it starts. */
const BREATH_MS = 100;
/** How long aborted handlers have to come to an end before their messages are given back. */
const ABORT_GRACE_MS = 1_000;
/** How long the last settlements may take before the receivers are closed over them. */
const SETTLE_GRACE_MS = 5_000;

/** The consumer engine: everything between an adapter's deliveries and the handler. */
export class Consuming implements Consumer, IntakeOwner, AftermathOwner {
  readonly #context: ConsumerContext;
  readonly #lanes: Lanes;
  readonly #apart = new Apart();
  readonly #held: Holding;
  readonly #handlers: Handlers;
  readonly #aftermath: Aftermath;
  readonly #quiet: Quiet;
  readonly #counts: Counts = noCounts();
  #state: "new" | "running" | "stopping" | "stopped" = "new";
  #paused = false;
  readonly #flow: Flow;
  readonly #parking: Parking;
  readonly #departures: Departures;
  #concurrency: number;
  #intakes: Intakes | undefined;
  #pumping = false;
  #opening: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #ended = false;

  constructor(context: ConsumerContext) {
    this.#context = context;
    this.#held = new Holding(
      context,
      () => this.#concurrency,
      (held) => this.#handlers.overrun(held),
    );
    this.#lanes = context.ordered ? new KeyedLanes() : new OpenLanes();
    this.#handlers = new Handlers(context, this.#counts, (held, verdict, aborted) =>
      this.#over(held, verdict, aborted),
    );
    this.#quiet = new Quiet(context.clock);
    this.#flow = new Flow(context);
    this.#parking = new Parking(context, this.#flow);
    const [lanes, held, parking, counts] = [this.#lanes, this.#held, this.#parking, this.#counts];
    const [intakes, changed] = [() => this.#intakes, () => this.#pump()];
    this.#departures = new Departures(context, { lanes, held, parking, counts, intakes, changed });
    this.#aftermath = new Aftermath(context, { counts, parking, departures: this.#departures }, this);
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

  /** Opens the receivers. Rejects if they cannot be opened, and leaves none open. */
  start(): Promise<void> {
    this.#state = "running";
    this.#flow.flowing("main", "suspects");
    this.#stopping = undefined;
    this.#aftermath.start();
    const opening = this.#open();
    this.#opening = opening.catch(() => {});
    return opening;
  }

  async #open(): Promise<void> {
    try {
      const windows = { main: this.#window(), suspects: this.#paused ? 0 : 1 };
      const intakes = await openIntakes(this.#context, windows, (suspect) => this.#sink(suspect), this);
      if (this.#state === "stopped") {
        await intakes.close();
        this.#departures.dropAll();
        return;
      }
      this.#intakes = intakes;
      this.#pump();
    } catch (error) {
      this.#departures.dropAll();
      throw error;
    }
  }

  stall(cause: unknown): void {
    this.#flow.stalled(cause, "main");
  }

  pause({ release = false }: PauseOptions = {}): void {
    this.#paused = true;
    this.#applyWindow();
    if (release) this.#giveBack();
  }

  resume(): void {
    this.#paused = false;
    this.retryParked();
    this.#pump();
  }

  /** Tries now what is parked. */
  retryParked(): void {
    this.#parking.retry("all");
  }

  setConcurrency(count: number): void {
    checkInteger("setConcurrency(count)", count, 1);
    this.#concurrency = count;
    this.#pump();
  }

  stop(options: StopOptions = {}): Promise<void> {
    this.#ended = true;
    return this.halt(options.timeoutMs ?? DEFAULT_STOP_MS);
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
      error: this.#flow.error,
      concurrency: this.#concurrency,
      window: this.#intakes?.main.window ?? 0,
      leaseMs: this.#intakes?.main.leaseMs,
      running: this.#handlers.running,
      waiting: this.#held.waiting(),
      unsettled: this.#held.size,
      parked: this.#parking.size,
      ...this.#counts,
    };
  }

  #visibleState(): ConsumerStatus["state"] {
    if (this.#state !== "running") return this.#state;
    if (this.#flow.error !== undefined) return "stalled";
    return this.#paused ? "paused" : "running";
  }

  // Deliveries come in.

  #sink(suspect: boolean): DeliverySink {
    return {
      deliver: (batch) => this.#deliver(batch, suspect),
      lost: (tokens, cause) => this.#lose(tokens, cause, suspect),
      recall: (tokens) => this.#recall(tokens, suspect),
      ...this.#flow.of(suspect ? "suspects" : "main"),
      filtered: (count) => this.#aftermath.filtered(count),
      overdue: (tokens, cause) => this.#overdue(tokens, cause, suspect),
    };
  }

  #deliver(batch: readonly IncomingMessage[], suspect: boolean): void {
    this.#flow.flowing(suspect ? "suspects" : "main");
    for (const incoming of batch) {
      const held = this.#held.add(incoming, suspect);
      if (suspect) this.#breathe(held);
      else this.#lanes.push(held);
    }
    if (this.#state === "stopping") this.#releaseWaiting();
    else this.#pump();
  }

  /**
   * A suspect may be the end of this process, and would take with it the acks that are still on their way out, its own
   * original's among them. They are given time to leave.
   */
  #breathe(held: HeldDelivery): void {
    this.#later(held, BREATH_MS, () => this.#apart.addSuspect(held));
  }

  #lose(tokens: readonly unknown[] | "all", cause: MessagingError, suspect: boolean): void {
    for (const held of this.#held.chosen(tokens, suspect)) {
      this.#loseOne(held, cause);
      if (tokens !== "all") this.#releaseBehind(held);
    }
    this.#pump();
  }

  #recall(tokens: readonly unknown[], suspect: boolean): void {
    for (const held of this.#held.chosen(tokens, suspect)) {
      held.recalled = true;
      if (held.isIdle) this.#departures.release(held);
    }
    this.#pump();
  }

  /** What waits goes first: the end of an attempt starts the next. */
  #overdue(tokens: readonly unknown[], cause: MessagingError, suspect: boolean): void {
    this.#recall(tokens, suspect);
    for (const held of this.#held.chosen(tokens, suspect)) this.#handlers.overrun(held, cause);
  }

  #loseOne(held: HeldDelivery, cause: MessagingError): void {
    if (held.lost) return;
    held.lost = true;
    held.abort(cause);
    // A handler, a copy or a settlement under way comes to its own end.
    if (held.state === "waiting" || held.rest !== undefined) this.#departures.drop(held);
  }

  /** What waits behind one that was lost alone would pass it; given back, it comes again behind it. */
  #releaseBehind(lost: HeldDelivery): void {
    const { key } = lost.incoming;
    if (!this.#context.ordered || key === undefined) return;
    for (const held of this.#held) {
      if (held.state === "waiting" && held.incoming.key === key && held.sequence > lost.sequence)
        this.#departures.release(held);
    }
  }

  leaseLost(held: HeldDelivery): void {
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
    while (this.#state === "running" && !this.#paused && this.#intakes !== undefined) {
      const held = this.#next();
      if (held === undefined) break;
      this.#handlers.start(held, this.#held.limits);
    }
    this.#pumping = false;
    if (this.#isStarved()) this.#held.starved();
    this.#applyWindow();
    this.#quiet.check();
  }

  /** Whether handlers are free while keys that wait for their turn fill the window. */
  #isStarved(): boolean {
    if (!this.#context.ordered || this.#held.suspicious || this.#handlers.running >= this.#concurrency) return false;
    return this.#intakes !== undefined && this.#held.size >= this.#intakes.main.window;
  }

  #next(): HeldDelivery | undefined {
    const apart = this.#apart.take(this.#handlers.running);
    if (apart !== undefined || this.#apart.isReserved) return apart;
    if (this.#context.ordered && this.#held.suspicious) {
      // In order nothing can be set apart: one at a time while a suspect is held, each settled before the next starts.
      // Then what stands first after a death is what ran; otherwise one that is long done would be blamed for the next.
      return this.#held.oldest?.state === "waiting" ? this.#lanes.takeOldest() : undefined;
    }
    if (this.#handlers.concurrent >= this.#concurrency) return undefined;
    return this.#lanes.take();
  }

  #over(held: HeldDelivery, verdict: Verdict, aborted: boolean): void {
    this.#apart.ended(held);
    if (held.lost) {
      this.#counts.fenced++;
      this.#departures.drop(held);
    } else if (this.#state === "stopping" && aborted && verdict.kind === "failed") {
      this.#departures.release(held);
    } else {
      this.#aftermath.apply(held, verdict);
    }
    this.#pump();
  }

  rest(held: HeldDelivery, delayMs: number, aside: boolean): void {
    if (!this.#keeps(held)) return;
    if (aside) this.#held.setAside(held);
    this.#later(held, delayMs, () => {
      this.#held.rejoin(held);
      held.attempt++;
      this.#lanes.again(held);
    });
    this.#pump();
  }

  runAlone(held: HeldDelivery): void {
    if (!this.#keeps(held)) return;
    held.state = "waiting";
    this.#apart.addAlone(held);
    this.#pump();
  }

  park(held: HeldDelivery, refusal: CopyRefusal, again: () => void): void {
    if (!this.#keeps(held)) return;
    held.state = "parked";
    this.#held.setAside(held);
    this.#parking.add(held, refusal, again);
    this.#pump();
  }

  /** Whether it may stay here for another try; else it is given back. */
  #keeps(held: HeldDelivery): boolean {
    if (held.isLeaving) return false;
    const kept = this.#state === "running" && !held.recalled;
    if (!kept) this.#departures.release(held);
    return kept;
  }

  #later(held: HeldDelivery, ms: number, wake: () => void): void {
    held.state = "resting";
    held.rest = this.#context.clock.schedule(() => {
      held.rest = undefined;
      held.state = "waiting";
      wake();
      this.#pump();
    }, ms);
  }

  // Deliveries leave.

  settled(held: HeldDelivery, action: Settlement["action"], result: SettleResult): void {
    this.#departures.settled(held, action, result);
  }

  leased(intake: Intake): readonly HeldDelivery[] {
    return this.#departures.owned(intake);
  }

  #window = (): number => (this.#paused ? 0 : this.#held.window());

  #applyWindow(): void {
    if (this.#state !== "running") return;
    this.#intakes?.main.setWindow(this.#window());
    this.#intakes?.suspects?.setWindow(this.#paused ? 0 : this.#held.suspectsWindow);
  }

  #releaseWaiting(): void {
    this.#lanes.drain();
    this.#giveBack();
  }

  #giveBack(): void {
    this.#apart.clear();
    this.#departures.releaseIdle();
  }

  async #drain(timeoutMs: number): Promise<void> {
    this.#state = "stopping";
    await this.#quiet.settled(this.#opening, timeoutMs);
    this.#intakes?.main.setWindow(0);
    this.#intakes?.suspects?.setWindow(0);
    this.#releaseWaiting();
    await this.#quiet.until(() => this.#handlers.running === 0 && !this.#held.copying(), timeoutMs);
    this.#aftermath.stop();
    const reason = new MessagingError("closed", `the consumer of ${this.#context.sourceName} was stopped`);
    for (const held of this.#held) held.abort(reason);
    await this.#quiet.until(() => this.#handlers.running === 0, ABORT_GRACE_MS);
    for (const held of this.#held) this.#leaveBehind(held);
    await this.#quiet.until(() => this.#held.size === 0, SETTLE_GRACE_MS);
    await this.#intakes?.close();
    this.#intakes = undefined;
    this.#departures.dropAll();
    this.#handlers.clear();
    this.#state = "stopped";
  }

  /** Gives back what a handler or a copy would not let go of in time. */
  #leaveBehind(held: HeldDelivery): void {
    this.#handlers.leaveBehind(held);
    if (held.state === "running" || held.state === "copying") this.#departures.release(held);
  }
}
