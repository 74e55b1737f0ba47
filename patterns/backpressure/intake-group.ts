import type { Clock, Timer } from "../../core/index.ts";
import type { Intake } from "./intake.ts";

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
