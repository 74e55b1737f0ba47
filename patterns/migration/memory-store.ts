import { checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type {
  BarrierAck,
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MarkKind,
  MigrationStore,
  StoredMigration,
} from "./store.ts";

/** The bit of a mark. */
export const MARK: Readonly<Record<MarkKind, number>> = { published: 1, handled: 2, dead: 4 };
export const PUBLISHED_AND_HANDLED = MARK.published | MARK.handled;

/** For each class, the bits to test and their value. */
const CLASS: Readonly<Record<JournalClass, { readonly mask: number; readonly value: number }>> = {
  missing: { mask: MARK.published | MARK.handled | MARK.dead, value: MARK.published },
  dead: { mask: MARK.handled | MARK.dead, value: MARK.dead },
  unexpected: { mask: PUBLISHED_AND_HANDLED, value: MARK.handled },
};

/** The SQL condition of a class on the column `marks`. */
export function inClass(which: JournalClass): string {
  const { mask, value } = CLASS[which];
  return `marks & ${mask} = ${value}`;
}

/** Whether marks belong to a class. */
function belongs(marks: number, which: JournalClass): boolean {
  return (marks & CLASS[which].mask) === CLASS[which].value;
}

interface Entry {
  marks: number;
  at: number;
}

/** The marks of each id of each source. */
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

  /** All entries that are not folded. */
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

  /** The number of folded messages by source. */
  folded(): IterableIterator<[string, number]> {
    return this.#folded.entries();
  }

  addFolded(source: string, count: number): void {
    if (!this.#sources.has(source)) this.#sources.set(source, new Map());
    this.#folded.set(source, (this.#folded.get(source) ?? 0) + count);
  }

  /** Removes published and handled entries whose last mark is older than `before`, and keeps their number. */
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

/** The options of {@link memoryMigrationStore}. */
export interface MemoryMigrationStoreOptions {
  /** The clock of leases. Default: the system clock. */
  readonly clock?: Clock;
}

/** A state store in memory, for one process and for tests. Throws `invalid` for wrong options. */
export function memoryMigrationStore(options: MemoryMigrationStoreOptions = {}): MigrationStore {
  checkOptions("memoryMigrationStore", options, ["clock"]);
  return new MemoryMigrationStore(clockOf("memoryMigrationStore { clock }", options.clock));
}

interface Instance {
  readonly acting: number;
  readonly report: string;
  readonly endsAt: number;
}

class Kept {
  revision = 0;
  document: string | undefined = undefined;
  readonly instances = new Map<string, Instance>();
  readonly barrierAcks = new Map<string, number>();
  readonly journal = new Journal();
}

class MemoryMigrationStore implements MigrationStore {
  readonly name = "memory";
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  #of(migration: string): Kept {
    let kept = this.#kept.get(migration);
    if (kept === undefined) {
      kept = new Kept();
      this.#kept.set(migration, kept);
    }
    return kept;
  }

  async read(migration: string): Promise<StoredMigration> {
    const { revision, document, instances } = this.#of(migration);
    const now = this.#clock.monotonic();
    for (const [instance, { endsAt }] of instances) if (endsAt <= now) instances.delete(instance);
    return {
      revision,
      document,
      instances: [...instances].map(([instance, { acting, report, endsAt }]) => ({
        instance,
        acting,
        report,
        remainingMs: endsAt - now,
      })),
      now: this.#clock.now(),
    };
  }

  async beat(migration: string, { instance, acting, leaseMs, report }: InstanceBeat): Promise<StoredMigration> {
    this.#of(migration).instances.set(instance, { acting, report, endsAt: this.#clock.monotonic() + leaseMs });
    return this.read(migration);
  }

  async leave(migration: string, instance: string): Promise<void> {
    this.#of(migration).instances.delete(instance);
  }

  async change(migration: string, expected: number, document: string): Promise<"changed" | "conflict"> {
    const kept = this.#of(migration);
    if (kept.revision !== expected) return "conflict";
    kept.revision++;
    kept.document = document;
    return "changed";
  }

  async acknowledgeBarrier(migration: string, barrierAcks: readonly BarrierAck[]): Promise<void> {
    const kept = this.#of(migration).barrierAcks;
    for (const { scope, epoch } of barrierAcks) kept.set(scope, Math.max(kept.get(scope) ?? 0, epoch));
  }

  async barrierAcks(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    const kept = this.#of(migration).barrierAcks;
    return scopes.map((scope) => kept.get(scope) ?? 0);
  }

  async clearBarrierAcks(migration: string): Promise<void> {
    this.#of(migration).barrierAcks.clear();
  }

  async mark(migration: string, marks: readonly JournalMark[]): Promise<void> {
    const { journal } = this.#of(migration);
    for (const mark of marks) journal.mark(mark, this.#clock.monotonic());
  }

  async counts(migration: string): Promise<readonly JournalCounts[]> {
    return this.#of(migration).journal.counts();
  }

  async list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    return this.#of(migration).journal.list(source, which, after, limit);
  }

  async fold(migration: string, olderThanMs: number, limit: number): Promise<number> {
    return this.#of(migration).journal.fold(this.#clock.monotonic() - olderThanMs, limit);
  }

  async forget(migration: string): Promise<void> {
    this.#kept.delete(migration);
  }
}
