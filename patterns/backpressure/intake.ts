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
