/** How a publish attempt ended: stored, not stored, or nobody knows. */
export type PublishOutcome = "pending" | "confirmed" | "refused" | "unknown";

interface Attempt {
  readonly sources: readonly string[];
  readonly print: string | undefined;
  outcome: PublishOutcome;
}

/** What the ledger finds. Entries are written `source/id`. */
export interface Verdict {
  /** Confirmed, and neither handled to the end nor found in the dead letters. */
  readonly lost: readonly string[];
  /** Handed to a handler, and never published to there. */
  readonly unexpected: readonly string[];
  /** Handed to a handler, although the publisher was told that it is not stored. */
  readonly denied: readonly string[];
  /** Handed to a handler with another body than the one published. */
  readonly altered: readonly string[];
  /** Publish attempts without an end. */
  readonly pending: readonly string[];
  /** Of unknown outcome, yet delivered. Allowed. */
  readonly recovered: readonly string[];
  /** Handled to the end more than once, an entry for each further time. */
  readonly duplicates: readonly string[];
}

const SHOWN = 10;

/** Books every publish attempt with its outcome, every start of a handler and every effect, for every source. */
export class Ledger {
  readonly #attempts = new Map<string, Attempt>();
  readonly #starts = new Tally();
  readonly #effects = new Tally();
  readonly #deadLetters = new Tally();
  readonly #altered: string[] = [];

  /** A publish is about to be tried, and each of the sources should get it. `print` tells its body from others. */
  attempted(id: string, sources: readonly string[], print?: string): void {
    const known = this.#attempts.get(id);
    if (known === undefined) this.#attempts.set(id, { sources, print, outcome: "pending" });
  }

  /** The publish ended. Once confirmed it stays confirmed: a later attempt under the same id takes nothing back. */
  ended(id: string, outcome: Exclude<PublishOutcome, "pending">): void {
    const attempt = this.#attempts.get(id);
    if (attempt === undefined) throw new Error(`the ledger has no attempt ${id}`);
    if (attempt.outcome !== "confirmed") attempt.outcome = outcome;
  }

  /** The publisher died: nobody will ever know how its open publishes ended. */
  publisherDied(): void {
    for (const attempt of this.#attempts.values()) if (attempt.outcome === "pending") attempt.outcome = "unknown";
  }

  /** A handler was started. */
  started(source: string, id: string, print?: string): void {
    this.#starts.add(source, id);
    const expected = this.#attempts.get(id)?.print;
    if (print !== undefined && expected !== undefined && print !== expected) this.#altered.push(`${source}/${id}`);
  }

  /** A handler finished its work. */
  effected(source: string, id: string): void {
    this.#effects.add(source, id);
  }

  /** The message was found in the dead letters of the source. */
  deadLettered(source: string, id: string): void {
    this.#deadLetters.add(source, id);
  }

  /** How many handlers were started, on one message or on all of a source. */
  starts(source: string, id?: string): number {
    return this.#starts.count(source, id);
  }

  /** How many effects there were, of one message or of all of a source. */
  effects(source: string, id?: string): number {
    return this.#effects.count(source, id);
  }

  /** How many publishes ended so. */
  outcomes(outcome: PublishOutcome): number {
    let count = 0;
    for (const attempt of this.#attempts.values()) if (attempt.outcome === outcome) count++;
    return count;
  }

  verdict(): Verdict {
    const lost: string[] = [];
    const pending: string[] = [];
    for (const [id, attempt] of this.#attempts) {
      if (attempt.outcome === "pending") pending.push(id);
      if (attempt.outcome !== "confirmed") continue;
      for (const source of attempt.sources) {
        const ended = this.#effects.count(source, id) + this.#deadLetters.count(source, id);
        if (ended === 0) lost.push(`${source}/${id}`);
      }
    }
    const unexpected: string[] = [];
    const denied: string[] = [];
    const recovered: string[] = [];
    for (const [source, id] of this.#starts.entries()) {
      const attempt = this.#attempts.get(id);
      if (attempt === undefined || !attempt.sources.includes(source)) unexpected.push(`${source}/${id}`);
      else if (attempt.outcome === "refused") denied.push(`${source}/${id}`);
      else if (attempt.outcome === "unknown") recovered.push(`${source}/${id}`);
    }
    const duplicates: string[] = [];
    for (const [source, id, times] of this.#effects.entries()) {
      for (let time = 1; time < times; time++) duplicates.push(`${source}/${id}`);
    }
    return { lost, unexpected, denied, altered: this.#altered, pending, recovered, duplicates };
  }

  /** The books as a person reads them in a failure. */
  describe(): string {
    const lines = [
      `publishes: ${this.#attempts.size}, confirmed ${this.outcomes("confirmed")}, refused ${this.outcomes("refused")}, unknown ${this.outcomes("unknown")}`,
      `handler starts: ${this.#starts.total}, effects: ${this.#effects.total}, dead letters: ${this.#deadLetters.total}`,
    ];
    for (const [name, entries] of Object.entries(this.verdict()) as [string, readonly string[]][]) {
      if (entries.length === 0) continue;
      const more = entries.length > SHOWN ? `, … ${entries.length - SHOWN} more` : "";
      lines.push(`${name}: ${entries.length} (${entries.slice(0, SHOWN).join(", ")}${more})`);
    }
    return lines.join("\n");
  }
}

/** Counts per source and id. */
class Tally {
  readonly #sources = new Map<string, Map<string, number>>();
  total = 0;

  add(source: string, id: string): void {
    const ids = this.#sources.get(source) ?? new Map<string, number>();
    this.#sources.set(source, ids.set(id, (ids.get(id) ?? 0) + 1));
    this.total++;
  }

  count(source: string, id?: string): number {
    const ids = this.#sources.get(source);
    if (ids === undefined) return 0;
    if (id !== undefined) return ids.get(id) ?? 0;
    let count = 0;
    for (const times of ids.values()) count += times;
    return count;
  }

  *entries(): Generator<readonly [source: string, id: string, times: number]> {
    for (const [source, ids] of this.#sources) for (const [id, times] of ids) yield [source, id, times];
  }
}
