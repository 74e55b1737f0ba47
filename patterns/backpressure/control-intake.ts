import type { Broker, Consumer, ConsumerStatus } from "../../core/broker.ts";
import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import type { Middleware } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
import type { PauseOptions, StopOptions } from "../../core/options.ts";
import { askDepth, checkLimits, DepthGauge, type DepthLimit, type DepthSource } from "./admit-by-depth.ts";

/** The intake of one consumer, for a control. */
export interface Intake {
  /**
   * Sets how many handlers this control allows at once: 0 allows none, undefined sets no limit. The least of all
   * controls' limits and the consumer's concurrency applies.
   */
  allow(handlers: number | undefined): void;
  /** Requeues the buffered deliveries if intake is held. For long holds. */
  requeue(): void;
  /** Whether its deliveries have leases. The engine renews them. */
  readonly leased: boolean;
  /** Whether the consumer takes messages or will. False as soon as it, or its broker, begins to stop. */
  readonly live: boolean;
  /** Whether `stop` of this consumer was called: it does not start again. */
  readonly ended: boolean;
}

/**
 * Decides when a consumer takes messages, as a rate limit or a circuit breaker does. Consumers under one object share its
 * limit.
 */
export interface IntakeControl {
  /** Takes an intake under control. The returned middleware wraps the handler and observes every start and end. */
  control(intake: Intake): Middleware;
}

/** How often a hold checks whether its consumers still run. */
const CHECK_MS = 500;

/**
 * How long deliveries may be buffered during a hold before they are requeued. RabbitMQ takes deliveries back after 30
 * minutes, SQS renews leases for 12 hours at most, and both then count a crash. Not sooner than needed, since some
 * brokers count requeues too.
 */
const LONGEST_HOLD_MS = 25 * 60_000;
const LONGEST_LEASED_HOLD_MS = 11 * 3_600_000;

/**
 * The intakes under one control, all with the same limit. A hold ends its timer when no consumer of the group runs. A
 * stopped consumer is set free, so that it is not held for ever if it starts again: its first message lets the control
 * decide anew.
 */
export class IntakeGroup {
  readonly #clock: Clock;
  readonly #intakes = new Set<Intake>();
  #handlers: number | undefined;
  #revision = 0;
  #timer: Timer | undefined;
  /** Since when deliveries may be buffered. A short interruption does not reset it. */
  #heldSince = Number.NEGATIVE_INFINITY;
  readonly #requeuedAt = new WeakMap<Intake, number>();
  #freeSince = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(intake: Intake): void {
    for (const other of this.#intakes) if (other.ended) this.#intakes.delete(other);
    this.#intakes.add(intake);
    intake.allow(this.#handlers);
  }

  /** Sets the limit of each consumer, and ends a hold. */
  allow(handlers: number | undefined): void {
    this.#cancel();
    this.#set(handlers);
  }

  /** Starts no handler until `at`, in monotonic milliseconds. Then calls `wake`, which sets the next limit. */
  holdUntil(at: number, wake: () => void): void {
    this.#cancel();
    const now = this.#clock.monotonic();
    if (this.#handlers === undefined && now - this.#freeSince > CHECK_MS) this.#heldSince = now;
    this.#set(0);
    this.#wait(at, wake);
  }

  #wait(at: number, wake: () => void): void {
    const left = at - this.#clock.monotonic();
    this.#timer = this.#clock.schedule(
      () => {
        this.#timer = undefined;
        this.#requeueInTime();
        if (!this.#freeStopped()) this.#handlers = undefined;
        else if (this.#clock.monotonic() >= at) wake();
        else this.#wait(at, wake);
      },
      Math.max(Math.min(left, CHECK_MS), 0),
    );
  }

  #requeueInTime(): void {
    const now = this.#clock.monotonic();
    for (const intake of this.#intakes) {
      const longest = intake.leased ? LONGEST_LEASED_HOLD_MS : LONGEST_HOLD_MS;
      const since = Math.max(this.#requeuedAt.get(intake) ?? this.#heldSince, this.#heldSince);
      if (now - since < longest) continue;
      this.#requeuedAt.set(intake, now);
      intake.requeue();
    }
  }

  /** Frees the intakes of stopping consumers. Returns whether any consumer runs. */
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
      // `allow` may start a handler at once, and the control may set another limit then.
      if (this.#revision !== revision) return;
    }
  }

  #cancel(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

/**
 * Puts a consumer under controls. `consume` makes the consumer with the given middleware:
 *
 *     const consumer = controlIntake([rateLimit({ perSecond: 50 })], (use) => broker.consume(orders, handle, { use }));
 *
 * Use the returned consumer. It takes messages while no control holds it and it is not paused. Its concurrency is the
 * least that all controls allow.
 *
 * A held consumer keeps its connection and its group membership. Buffered deliveries keep their leases, and are requeued
 * after 25 minutes, or after 11 hours on brokers with leases. Running handlers continue, and `stop` does not wait for
 * held deliveries. The first control is the outermost. Throws `invalid` for a wrong list of controls, and what `consume`
 * throws.
 */
export function controlIntake(
  controls: readonly IntakeControl[],
  consume: (use: readonly Middleware[]) => Consumer,
): Consumer {
  if (!Array.isArray(controls) || !controls.every((control) => typeof control?.control === "function")) {
    throw new MessagingError(
      "invalid",
      "controlIntake takes a list of controls, such as [rateLimit({ perSecond: 50 })], and a function that makes the consumer",
    );
  }
  const controlled = new ControlledConsumer();
  const use = controls.map((control) => control.control(controlled.intake()));
  controlled.begin(consume(use));
  return controlled;
}

/** A consumer that starts handlers as its controls allow. */
class ControlledConsumer implements Consumer {
  #inner: Consumer | undefined;
  readonly #limits = new Map<Intake, number>();
  #concurrency = 1;
  /** The concurrency that was set last. */
  #applied = 1;
  #held = false;
  #paused = false;
  #ended = false;

  /** Makes the intake of one more control. */
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
    if (this.#inner === undefined)
      throw new MessagingError("closed", "the consumer does not exist yet: call this later");
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
   * Applies pause and limits to the consumer. Each call may start handlers, and their controls may change the limits:
   * so the state is computed again before each call.
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

const DEFAULT_POLL_MS = 500;

/** The options of {@link followDownstream}. */
export interface FollowOptions {
  /** The destinations that the handler sends to, and their limits. */
  readonly limits: readonly DepthLimit[];
  /** The most messages that a handler sends to each destination for one message. Default 1. */
  readonly perMessage?: number;
  /** The least time between two depth requests for one destination, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
}

/**
 * Links a consumer to the queues it feeds: it takes messages only while there is room downstream. A slow last stage so
 * slows down every stage before it. Use it with {@link controlIntake}. No message is refused; messages wait on the broker.
 *
 * - Each started handler uses up `perMessage` of the room below `maxDepth`. Answers of the broker free the room again.
 *   Without room, intake is held until the depth is down to `resumeAt`.
 * - Intake is also held while the downstream broker is unreachable or blocked, and while sends wait for room in its
 *   publish buffer.
 * - While the depth is unavailable for another reason, one message at a time is handled.
 * - The limit holds for consumers that share this object. Other processes may exceed it by what they send between two
 *   answers.
 *
 * Throws `invalid` for wrong options.
 */
export function followDownstream(broker: DepthSource & Pick<Broker, "status">, options: FollowOptions): IntakeControl {
  const where = "followDownstream";
  checkOptions(where, options, ["limits", "perMessage", "pollMs", "clock"]);
  const { perMessage = 1, pollMs = DEFAULT_POLL_MS } = options;
  const clock = clockOf(`${where} { clock }`, options.clock);
  checkInteger(`${where} { perMessage }`, perMessage, 1);
  checkInteger(`${where} { pollMs }`, pollMs, 1);
  const gauges = checkLimits(where, options.limits).map(
    (limit) => new DepthGauge(limit, () => askDepth(broker, limit), clock, pollMs),
  );
  return new Following(broker, gauges, perMessage, pollMs, clock);
}

class Following implements IntakeControl {
  readonly #broker: Pick<Broker, "status">;
  readonly #gauges: readonly DepthGauge[];
  readonly #perMessage: number;
  readonly #pollMs: number;
  readonly #clock: Clock;
  readonly #group: IntakeGroup;
  /** Whether sends would wait, as of the last check. */
  #blocked = false;

  constructor(
    broker: Pick<Broker, "status">,
    gauges: readonly DepthGauge[],
    perMessage: number,
    pollMs: number,
    clock: Clock,
  ) {
    this.#broker = broker;
    this.#gauges = gauges;
    this.#perMessage = perMessage;
    this.#pollMs = pollMs;
    this.#clock = clock;
    this.#group = new IntakeGroup(clock);
  }

  control(intake: Intake): Middleware {
    this.#group.add(intake);
    return (next) => async (body, delivery) => {
      for (const gauge of this.#gauges) gauge.take(this.#perMessage);
      if (this.#gauges.some((gauge) => gauge.stale)) this.#ask();
      this.#update();
      try {
        return await next(body, delivery);
      } finally {
        for (const gauge of this.#gauges) gauge.settled(this.#perMessage);
      }
    };
  }

  #ask(): void {
    const { state, connected, blocked, publishing } = this.#broker.status();
    this.#blocked = state === "started" && (!connected || blocked !== undefined || publishing.waiting > 0);
    Promise.all(this.#gauges.map((gauge) => gauge.refresh())).then(() => this.#update());
  }

  #update(): void {
    if (this.#blocked || this.#gauges.some((gauge) => gauge.full)) {
      this.#group.holdUntil(this.#clock.monotonic() + this.#pollMs, () => this.#ask());
    } else {
      this.#group.allow(this.#gauges.every((gauge) => gauge.known) ? undefined : 1);
    }
  }
}
