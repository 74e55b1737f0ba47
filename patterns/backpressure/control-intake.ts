import type { Consumer, ConsumerStatus } from "../../core/broker.ts";
import { checkInteger } from "../../core/checks.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import type { Middleware } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
import type { PauseOptions, StopOptions } from "../../core/options.ts";

/** The intake of one consumer, as a control sees it. */
export interface Intake {
  /**
   * Sets how many handlers this control lets run at once: 0 starts none, undefined leaves it to the others. Of all
   * controls' numbers, and the consumer's own concurrency, the least holds.
   */
  allow(handlers: number | undefined): void;
  /** Gives back what waits in memory, if handlers are held: for a hold that lasts. */
  requeue(): void;
  /** Whether its deliveries have leases, which the engine renews. */
  readonly leased: boolean;
  /** Whether it takes messages, or will: false from when the consumer, or its broker, begins to stop. */
  readonly live: boolean;
  /** Whether the consumer was stopped by itself: it does not start again. */
  readonly ended: boolean;
}

/**
 * Something that decides when a consumer takes messages: a rate limit, a circuit breaker, a downstream that is full.
 * One object may control several consumers, which then share its limit.
 */
export interface IntakeControl {
  /** Takes an intake under control; what it returns wraps the consumer's handler, so that it sees every start and end. */
  control(intake: Intake): Middleware;
}

/** How often a held intake is looked at, to let go of the timer when its consumer stops. */
const LOOK_MS = 500;

/**
 * How long messages may wait in memory behind a hold before they are given back. RabbitMQ takes deliveries away after half
 * an hour, and SQS renews no lease beyond twelve hours; both then count the death of a consumer. Not much sooner, since
 * some brokers count what is given back as well.
 */
const LONGEST_HOLD_MS = 25 * 60_000;
const LONGEST_LEASED_HOLD_MS = 11 * 3_600_000;

/**
 * The intakes that share one control. All are allowed the same. A hold with an end has a timer, which is let go of when
 * no consumer of the group lives any more; a stopped one is left free, so that it is not held for ever if it starts
 * again: the control sees its first message and decides anew.
 */
export class IntakeGroup {
  readonly #clock: Clock;
  readonly #intakes = new Set<Intake>();
  #handlers: number | undefined;
  #revision = 0;
  #timer: Timer | undefined;
  /** Since when what is in memory may have waited; a hold that is interrupted for a moment goes on. */
  #heldSince = Number.NEGATIVE_INFINITY;
  readonly #releasedAt = new WeakMap<Intake, number>();
  #freeSince = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(intake: Intake): void {
    for (const other of this.#intakes) if (other.ended) this.#intakes.delete(other);
    this.#intakes.add(intake);
    intake.allow(this.#handlers);
  }

  /** How many handlers may run at once in each, until told otherwise. */
  allow(handlers: number | undefined): void {
    this.#cancel();
    this.#set(handlers);
  }

  /** Starts nothing until `at`, in monotonic milliseconds; then calls `wake`, which says what holds from then on. */
  holdUntil(at: number, wake: () => void): void {
    this.#cancel();
    const now = this.#clock.monotonic();
    if (this.#handlers === undefined && now - this.#freeSince > LOOK_MS) this.#heldSince = now;
    this.#set(0);
    this.#wait(at, wake);
  }

  #wait(at: number, wake: () => void): void {
    const left = at - this.#clock.monotonic();
    this.#timer = this.#clock.schedule(
      () => {
        this.#timer = undefined;
        this.#releaseInTime();
        if (!this.#freeStopped()) this.#handlers = undefined;
        else if (this.#clock.monotonic() >= at) wake();
        else this.#wait(at, wake);
      },
      Math.max(Math.min(left, LOOK_MS), 0),
    );
  }

  #releaseInTime(): void {
    const now = this.#clock.monotonic();
    for (const intake of this.#intakes) {
      const longest = intake.leased ? LONGEST_LEASED_HOLD_MS : LONGEST_HOLD_MS;
      const since = Math.max(this.#releasedAt.get(intake) ?? this.#heldSince, this.#heldSince);
      if (now - since < longest) continue;
      this.#releasedAt.set(intake, now);
      intake.requeue();
    }
  }

  /** Frees the intakes of consumers that stop; returns whether any lives. */
  #freeStopped(): boolean {
    let live = false;
    for (const intake of this.#intakes) {
      if (intake.live) live = true;
      else intake.allow(undefined);
      if (intake.ended) this.#intakes.delete(intake);
    }
    return live;
  }

  #set(handlers: number | undefined): void {
    if (handlers === undefined && this.#handlers !== undefined) this.#freeSince = this.#clock.monotonic();
    this.#handlers = handlers;
    const revision = ++this.#revision;
    for (const intake of this.#intakes) {
      intake.allow(handlers);
      // To allow may start a handler at once, and what it means to the control holds from then on.
      if (this.#revision !== revision) return;
    }
  }

  #cancel(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

/**
 * Puts a consumer under controls. `consume` makes it, with the middleware it is given:
 *
 *     const consumer = controlIntake([rateLimit({ perSecond: 50 })], (use) => broker.consume(orders, handle, { use }));
 *
 * What is returned is the consumer to work with: it takes messages while no control holds it and it is not paused, and
 * runs as many handlers at once as all of them allow. A held consumer keeps its connection, its membership and, renewed,
 * the leases of what waits in memory, which it gives back before the broker would take it (after 25 minutes, where there
 * are leases after 11 hours); what runs goes on; a stop waits for nothing held. The first control is the
 * outermost. Throws `invalid` for what is no control, and whatever `consume` throws.
 */
export function controlIntake(
  controls: readonly IntakeControl[],
  consume: (use: readonly Middleware[]) => Consumer,
): Consumer {
  if (!Array.isArray(controls) || !controls.every((control) => typeof control?.control === "function")) {
    throw new MessagingError(
      "invalid",
      "controlIntake takes a list of controls, such as rateLimit(), and a function that makes the consumer",
    );
  }
  const controlled = new ControlledConsumer();
  const use = controls.map((control) => control.control(controlled.intake()));
  controlled.begin(consume(use));
  return controlled;
}

/** A consumer that starts handlers only as its controls allow. */
class ControlledConsumer implements Consumer {
  #inner: Consumer | undefined;
  readonly #limits = new Map<Intake, number>();
  #concurrency = 1;
  /** What the consumer was told last. */
  #applied = 1;
  #held = false;
  #paused = false;
  #ended = false;

  /** A way for one more control. */
  intake(): Intake {
    const isLive = (): boolean => this.#live;
    const isEnded = (): boolean => this.#ended;
    const isLeased = (): boolean => this.#inner?.status().leaseMs !== undefined;
    const intake: Intake = {
      allow: (handlers) => this.#allow(intake, handlers),
      requeue: () => this.#requeue(),
      get leased() {
        return isLeased();
      },
      get live() {
        return isLive();
      },
      get ended() {
        return isEnded();
      },
    };
    return intake;
  }

  begin(inner: Consumer): void {
    this.#inner = inner;
    this.#concurrency = inner.status().concurrency;
    this.#applied = this.#concurrency;
    this.#apply();
  }

  pause(options?: PauseOptions): void {
    this.#paused = true;
    this.#apply();
    if (options?.requeue) this.#requeue();
  }

  resume(): void {
    this.#paused = false;
    this.#apply();
  }

  setConcurrency(count: number): void {
    checkInteger("setConcurrency(count)", count, 1);
    this.#concurrency = count;
    this.#apply();
  }

  stop(options?: StopOptions): Promise<void> {
    this.#ended = true;
    return this.#consumer.stop(options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  status(): ConsumerStatus {
    return this.#consumer.status();
  }

  get #consumer(): Consumer {
    if (this.#inner === undefined) throw new MessagingError("closed", "the consumer is not made yet");
    return this.#inner;
  }

  get #live(): boolean {
    if (this.#ended) return false;
    const state = this.#inner?.status().state;
    return state !== "stopping" && state !== "stopped";
  }

  #allow(intake: Intake, handlers: number | undefined): void {
    if (this.#limits.get(intake) === handlers) return;
    if (handlers === undefined) this.#limits.delete(intake);
    else this.#limits.set(intake, handlers);
    this.#apply();
  }

  #requeue(): void {
    if (this.#held) this.#inner?.pause({ requeue: true });
  }

  /**
   * Tells the consumer what holds now. Each call may start handlers at once, whose controls come back to here: so what
   * holds is asked for anew before each.
   */
  #apply(): void {
    const inner = this.#inner;
    if (inner === undefined) return;
    if (this.#wantsHold() && !this.#held) {
      this.#held = true;
      inner.pause();
    }
    const handlers = Math.min(this.#concurrency, ...[...this.#limits.values()].filter((limit) => limit > 0));
    if (handlers !== this.#applied) {
      this.#applied = handlers;
      inner.setConcurrency(handlers);
    }
    if (!this.#wantsHold() && this.#held) {
      this.#held = false;
      inner.resume();
    }
  }

  #wantsHold(): boolean {
    return this.#paused || [...this.#limits.values()].includes(0);
  }
}
