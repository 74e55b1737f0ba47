const PLAIN_EVERY_MS = 1_000;

/** Shows how far things are: one line that is rewritten on a terminal, a line each second elsewhere. */
export class Progress {
  readonly #out = process.stdout;
  readonly #since = performance.now();
  #shown = 0;
  #state = "";
  #changedAt = performance.now();

  get seconds(): string {
    return ((performance.now() - this.#since) / 1_000).toFixed(1);
  }

  /** For how long the state has been the same, in milliseconds: whether anything goes on, on however slow a machine. */
  get idleMs(): number {
    return performance.now() - this.#changedAt;
  }

  /** Shows the present state. */
  show(state: string): void {
    if (state !== this.#state) {
      this.#state = state;
      this.#changedAt = performance.now();
    }
    if (this.#out.isTTY) {
      this.#out.write(`\r\u001b[2K${`${this.seconds} s  ${state}`.slice(0, this.#out.columns - 1)}`);
      return;
    }
    const now = performance.now();
    if (now - this.#shown < PLAIN_EVERY_MS) return;
    this.#shown = now;
    this.#out.write(`${this.seconds} s  ${state}\n`);
  }

  /** Says something that stays. */
  say(line: string): void {
    this.#out.write(`${this.#out.isTTY ? "\r\u001b[2K" : ""}${line}\n`);
  }
}
