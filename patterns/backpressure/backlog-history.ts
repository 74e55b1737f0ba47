/** What was counted up to one moment. All but the depth only grow. */
export interface BacklogSample {
  readonly at: number;
  /** Undefined while the broker could not be asked. */
  readonly standing: number | undefined;
  /** Handled or dead-lettered, as the consumers counted. */
  readonly drained: number;
  /** Handlers that ended, as the middleware counted. */
  readonly handled: number;
  readonly busyMs: number;
}

/** Per second, over the time between two samples. */
export interface BacklogRates {
  readonly drainPerSecond: number;
  readonly depthPerSecond: number | undefined;
  readonly handlingMs: number | undefined;
}

/** The samples of the last so many milliseconds, and one that is older, for the rates between them. */
export class BacklogHistory {
  readonly #windowMs: number;
  readonly #samples: BacklogSample[] = [];

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(sample: BacklogSample): void {
    this.#samples.push(sample);
    const from = sample.at - this.#windowMs;
    while ((this.#samples[1]?.at ?? Number.POSITIVE_INFINITY) <= from) this.#samples.shift();
  }

  /** The rates from the oldest sample to the newest; undefined until there are two. */
  rates(): BacklogRates | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return undefined;
    const handled = last.handled - first.handled;
    return {
      drainPerSecond: ((last.drained - first.drained) * 1_000) / (last.at - first.at),
      depthPerSecond: this.#growth(),
      handlingMs: handled === 0 ? undefined : (last.busyMs - first.busyMs) / handled,
    };
  }

  /** How fast the depth grows, between the first and the last time that it was known. */
  #growth(): number | undefined {
    const known = ({ standing }: BacklogSample): boolean => standing !== undefined;
    const first = this.#samples.find(known);
    const last = this.#samples.findLast(known);
    if (first?.standing === undefined || last?.standing === undefined || last.at <= first.at) return undefined;
    return ((last.standing - first.standing) * 1_000) / (last.at - first.at);
  }
}
