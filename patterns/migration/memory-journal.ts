import { belongs, MARK, PUBLISHED_AND_HANDLED } from "./marks.ts";
import type { JournalClass, JournalCounts, JournalMark, MarkKind } from "./store.ts";

interface Entry {
  marks: number;
  at: number;
}

/** Which ids of which source have which marks. */
export class Journal {
  readonly #sources = new Map<string, Map<string, Entry>>();
  readonly #folded = new Map<string, number>();

  mark({ source, id, mark }: JournalMark, at: number): void {
    let entries = this.#sources.get(source);
    if (entries === undefined) {
      entries = new Map();
      this.#sources.set(source, entries);
    }
    const entry = entries.get(id);
    if (entry === undefined) {
      entries.set(id, { marks: MARK[mark], at });
    } else {
      entry.marks |= MARK[mark];
      entry.at = at;
    }
  }

  counts(): readonly JournalCounts[] {
    return [...this.#sources].map(([source, entries]) => {
      const folded = this.#folded.get(source) ?? 0;
      const all = [...entries.values()];
      const count = (holds: (marks: number) => boolean): number => all.filter(({ marks }) => holds(marks)).length;
      return {
        source,
        published: folded + count((marks) => (marks & MARK.published) !== 0),
        handled: folded + count((marks) => (marks & MARK.handled) !== 0),
        missing: count((marks) => belongs(marks, "missing")),
        dead: count((marks) => belongs(marks, "dead")),
        unexpected: count((marks) => belongs(marks, "unexpected")),
      };
    });
  }

  list(source: string, which: JournalClass, after: string | undefined, limit: number): readonly string[] {
    const ids: string[] = [];
    for (const [id, { marks }] of this.#sources.get(source) ?? []) {
      if (belongs(marks, which) && (after === undefined || id > after)) ids.push(id);
    }
    return ids.sort().slice(0, limit);
  }

  /** Everything that is not folded. */
  *entries(): Generator<{
    readonly source: string;
    readonly id: string;
    readonly marks: MarkKind[];
    readonly at: number;
  }> {
    for (const [source, entries] of this.#sources) {
      for (const [id, { marks, at }] of entries) {
        const kinds = (Object.keys(MARK) as MarkKind[]).filter((kind) => (marks & MARK[kind]) !== 0);
        yield { source, id, marks: kinds, at };
      }
    }
  }

  /** How many of which source were folded. */
  folded(): IterableIterator<[string, number]> {
    return this.#folded.entries();
  }

  addFolded(source: string, count: number): void {
    if (!this.#sources.has(source)) this.#sources.set(source, new Map());
    this.#folded.set(source, (this.#folded.get(source) ?? 0) + count);
  }

  /** Forgets what is published and handled and had its last mark before `before`. */
  fold(before: number, limit: number): number {
    let folded = 0;
    for (const [source, entries] of this.#sources) {
      for (const [id, { marks, at }] of entries) {
        if (folded >= limit) return folded;
        if ((marks & PUBLISHED_AND_HANDLED) !== PUBLISHED_AND_HANDLED || at >= before) continue;
        entries.delete(id);
        this.#folded.set(source, (this.#folded.get(source) ?? 0) + 1);
        folded++;
      }
    }
    return folded;
  }
}
