import { checkInteger } from "../../core/checks.ts";
import type { Consumer, ConsumerStatus, Middleware, PauseOptions, StopOptions } from "../../core/index.ts";
import { MessagingError } from "../../core/index.ts";
import type { Intake } from "./intake.ts";
import type { IntakeControl } from "./intake-control.ts";

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
