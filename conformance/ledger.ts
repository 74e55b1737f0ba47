/** How a publish ended. `unknown`: stored or not. */
export type PublishOutcome = "pending" | "confirmed" | "refused" | "unknown";

interface Attempt {
  readonly sources: readonly string[];
  readonly print: string | undefined;
  outcome: PublishOutcome;
}

/** The findings of the ledger. Each entry is `source/id`. */
export interface Verdict {
  /** Confirmed, but neither handled nor found in the dead letters. */
  readonly lost: readonly string[];
  /** Given to a handler, but never published to that source. */
  readonly unexpected: readonly string[];
  /** Given to a handler, but reported to the publisher as not stored. */
  readonly denied: readonly string[];
  /** Given to a handler with another body than published. */
  readonly altered: readonly string[];
  /** Publishes without an end. */
  readonly pending: readonly string[];
  /** Of unknown outcome, and delivered. Allowed. */
  readonly recovered: readonly string[];
  /** Handled more than once: an entry for each further time. */
  readonly duplicates: readonly string[];
}

const SHOWN = 10;

/** Records each publish with its outcome, and each handler start, effect and dead letter of each source. */
export class Ledger {
  readonly #attempts = new Map<string, Attempt>();
  readonly #starts = new Tally();
  readonly #effects = new Tally();
  readonly #deadLetters = new Tally();
  readonly #altered: string[] = [];

  /** Records a publish that each of the sources has to get. `print` is the body as text. */
  attempted(id: string, sources: readonly string[], print?: string): void {
    const known = this.#attempts.get(id);
    if (known === undefined) this.#attempts.set(id, { sources, print, outcome: "pending" });
  }

  /** Records the end of a publish. A later attempt under the same id cannot undo a confirm. */
  ended(id: string, outcome: Exclude<PublishOutcome, "pending">): void {
    const attempt = this.#attempts.get(id);
    if (attempt === undefined) throw new Error(`the ledger has no attempt ${id}`);
    if (attempt.outcome !== "confirmed") attempt.outcome = outcome;
  }

  /** The publisher died: the outcome of its open publishes is unknown. */
  publisherDied(): void {
    for (const attempt of this.#attempts.values()) if (attempt.outcome === "pending") attempt.outcome = "unknown";
  }

  /** Records a handler start. */
  started(source: string, id: string, print?: string): void {
    this.#starts.add(source, id);
    const expected = this.#attempts.get(id)?.print;
    if (print !== undefined && expected !== undefined && print !== expected) this.#altered.push(`${source}/${id}`);
  }

  /** Records that a handler returned. */
  effected(source: string, id: string): void {
    this.#effects.add(source, id);
  }

  /** Records a dead letter of the source. */
  deadLettered(source: string, id: string): void {
    this.#deadLetters.add(source, id);
  }

  /** The number of handler starts, for one message or the whole source. */
  starts(source: string, id?: string): number {
    return this.#starts.count(source, id);
  }

  /** The number of effects, of one message or the whole source. */
  effects(source: string, id?: string): number {
    return this.#effects.count(source, id);
  }

  /** The number of publishes with this outcome. */
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

  /** The ledger as text, for errors. */
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
