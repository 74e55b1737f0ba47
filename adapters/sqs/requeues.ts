const MOST_REMEMBERED = 10_000;

/**
 * How often messages were given back on purpose. SQS counts that like the death of a consumer; what this process gave
 * back it can tell apart, what another did it cannot.
 */
export class Requeues {
  readonly #counts = new Map<string, number>();

  requeued(messageId: string): void {
    const count = this.count(messageId) + 1;
    // The oldest makes room: it is the least likely to be asked for.
    this.#counts.delete(messageId);
    this.#counts.set(messageId, count);
    if (this.#counts.size <= MOST_REMEMBERED) return;
    const [oldest = ""] = this.#counts.keys();
    this.#counts.delete(oldest);
  }

  count(messageId: string): number {
    return this.#counts.get(messageId) ?? 0;
  }

  forget(messageId: string): void {
    this.#counts.delete(messageId);
  }
}
