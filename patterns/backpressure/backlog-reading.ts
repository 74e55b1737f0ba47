/** What a backlog was at one moment. What is not known is undefined, never a guess. */
export interface BacklogReading {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  readonly at: Date;
  /**
   * Messages that could be delivered, as the broker tells: `Depth.ready`. On Kafka this is the lag, which includes what
   * is delivered and not yet settled; on SQS it is approximate. Undefined while the broker cannot be asked.
   */
  readonly depth: number | undefined;
  /** Messages delivered and not yet settled, where the broker tells. */
  readonly unsettled: number | undefined;
  /** Whether both are exact. */
  readonly exact: boolean;
  /**
   * How old the oldest waiting message is at most, in milliseconds since its first publishing: 0 with nothing waiting;
   * otherwise the age at which first attempts were started since the last reading, the oldest of them; and if none was,
   * the age by now of the message started last, since what waits came after it. Measured by `middleware`, alike on every
   * broker; undefined until it has seen a message. Delays asked for at sending are part of it, retries are not.
   */
  readonly oldestAgeMs: number | undefined;
  /** Messages that handlers of this process have finished since the meter was made. */
  readonly handled: number;
  /** Messages that this process has dead-lettered since then. */
  readonly deadLettered: number;
  /** Messages handled or dead-lettered per second over the window, of all processes as far as `consumers` tells. */
  readonly drainPerSecond: number | undefined;
  /** Messages that came per second over the window: what was handled or dead-lettered, and what the depth grew by. */
  readonly arrivalPerSecond: number | undefined;
  /** How long a handler takes on average over the window, in milliseconds. Measured by `middleware`. */
  readonly handlingMs: number | undefined;
  /**
   * How many processes like this one keep up with what comes, and work off what waits within the target delay:
   * `(arrival + depth / target) / (concurrency / handling time)`, rounded up. Undefined until all of it is known.
   */
  readonly consumersRecommended: number | undefined;
}
