import type { Clock, Timer } from "../../../core/clock.ts";
import { ProcessClock, type VirtualTime } from "../../simulation/virtual-time.ts";

/** The clock of a process that may stand still for a while: nothing of it runs until it goes on, then everything at once. */
export class PausableClock implements Clock {
  readonly #clock: ProcessClock;
  readonly #held: (() => void)[] = [];
  #isPaused = false;
  #isDead = false;

  constructor(time: VirtualTime) {
    this.#clock = new ProcessClock(time);
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Timers that have neither fired nor been cancelled. */
  get pending(): number {
    return this.#clock.pending;
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  schedule(run: () => void, ms: number): Timer {
    const timer = { isCancelled: false, inner: {} as Timer };
    const fire = (): void => {
      if (!timer.isCancelled) run();
    };
    timer.inner = this.#clock.schedule(() => this.run(fire), ms);
    return timer;
  }

  cancel(timer: Timer): void {
    const { inner } = timer as { readonly inner: Timer };
    Object.assign(timer, { isCancelled: true });
    this.#clock.cancel(inner);
  }

  /** Something reaches the process. */
  run(run: () => void): void {
    if (this.#isDead) return;
    if (this.#isPaused) this.#held.push(run);
    else run();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    for (const run of this.#held.splice(0)) this.run(run);
  }

  kill(): void {
    this.#isDead = true;
    this.#clock.kill();
  }
}
