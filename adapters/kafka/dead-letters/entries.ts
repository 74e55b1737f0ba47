import { contentOf } from "./entry-key.ts";

/** One record of an entry. */
export interface Copy {
  readonly key: string;
  readonly offset: number;
}

/** A dead letter that stands: a message, in one record or several. */
export interface Entry {
  readonly content: string;
  /** In the order of offsets; the last is the one that is delivered. Empty once all were removed. */
  copies: readonly Copy[];
}

/**
 * The dead letters of a topic that stand, told from its records: keys and offsets only, some 250 bytes each. They are
 * taken in the order of their last copies, and given back or finished with.
 */
export class Entries {
  /** In the order of their last copies. */
  readonly #waiting = new Map<string, Entry>();
  readonly #returned = new Map<string, Entry>();
  readonly #taken = new Map<string, Entry>();
  /** Copies that came of messages while they were taken. They may be a second life of the message, and wait for its end. */
  readonly #later = new Map<string, readonly Copy[]>();
  #next: Iterator<Entry> | undefined;

  /** How many stand. */
  get size(): number {
    let size = this.#waiting.size + this.#returned.size;
    for (const { content, copies } of this.#taken.values()) if (copies.length > 0 || this.#later.has(content)) size++;
    return size;
  }

  /** A record with a body. Must be called in the order of offsets. */
  put(key: string, offset: number): void {
    const content = contentOf(key);
    const copy = { key, offset };
    if (this.#taken.has(content)) {
      this.#later.set(content, added(this.#later.get(content) ?? [], copy));
      return;
    }
    const returned = this.#returned.get(content);
    if (returned !== undefined) {
      returned.copies = added(returned.copies, copy);
      return;
    }
    const before = this.#waiting.get(content);
    // It goes to the end of the order.
    if (before !== undefined) this.#waiting.delete(content);
    this.#waiting.set(content, { content, copies: added(before?.copies ?? [], copy) });
  }

  /** A tombstone. */
  remove(key: string): void {
    const content = contentOf(key);
    const taken = this.#taken.get(content);
    if (taken !== undefined) taken.copies = without(taken.copies, key);
    for (const entries of [this.#waiting, this.#returned]) {
      const entry = entries.get(content);
      if (entry === undefined) continue;
      entry.copies = without(entry.copies, key);
      if (entry.copies.length === 0) entries.delete(content);
    }
    const later = this.#later.get(content);
    if (later !== undefined) this.#keepLater(content, without(later, key));
  }

  /** The next that nobody has; those given back come first. */
  take(): Entry | undefined {
    const entry = this.#returned.values().next().value ?? this.#nextWaiting();
    if (entry === undefined) return undefined;
    this.#returned.delete(entry.content);
    this.#waiting.delete(entry.content);
    this.#taken.set(entry.content, entry);
    return entry;
  }

  /** The one that a record of this key belongs to; for those who only look. */
  find(key: string): Entry | undefined {
    return this.#waiting.get(contentOf(key));
  }

  /** All, in order; for those who only look. */
  *[Symbol.iterator](): Iterator<Entry> {
    yield* this.#waiting.values();
  }

  /** It was not done with. */
  giveBack(entry: Entry): void {
    const { content } = entry;
    if (this.#taken.get(content) !== entry) return;
    this.#taken.delete(content);
    entry.copies = [...entry.copies, ...(this.#later.get(content) ?? [])];
    this.#later.delete(content);
    if (entry.copies.length > 0) this.#returned.set(content, entry);
  }

  /** It was removed. Copies that came meanwhile are an entry of their own from now on. */
  finish(entry: Entry): void {
    const { content } = entry;
    if (this.#taken.get(content) !== entry) return;
    this.#taken.delete(content);
    const copies = this.#later.get(content);
    this.#later.delete(content);
    if (copies !== undefined) this.#waiting.set(content, { content, copies });
  }

  #keepLater(content: string, copies: readonly Copy[]): void {
    if (copies.length > 0) this.#later.set(content, copies);
    else this.#later.delete(content);
  }

  /** A new iterator would step over all that was deleted at the front, each time; one goes on behind it. */
  #nextWaiting(): Entry | undefined {
    this.#next ??= this.#waiting.values();
    const { done, value } = this.#next.next();
    if (!done) return value;
    this.#next = undefined;
    return undefined;
  }
}

function added(copies: readonly Copy[], copy: Copy): readonly Copy[] {
  return copies.length === 0 ? [copy] : [...without(copies, copy.key), copy];
}

function without(copies: readonly Copy[], key: string): readonly Copy[] {
  return copies.some((copy) => copy.key === key) ? copies.filter((copy) => copy.key !== key) : copies;
}
