import { checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/index.ts";
import { Journal } from "./memory-journal.ts";
import type {
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MigrationStore,
  Seal,
  StoredMigration,
} from "./store.ts";

/** The options of {@link memoryMigrationStore}. */
export interface MemoryMigrationStoreOptions {
  /** Where leases take their time from. Default: the machine. */
  readonly clock?: Clock;
}

/** A state store for one process: for tests, and to try things out. Throws `invalid` for wrong options. */
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
  readonly seals = new Map<string, number>();
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

  async seal(migration: string, seals: readonly Seal[]): Promise<void> {
    const kept = this.#of(migration).seals;
    for (const { scope, epoch } of seals) kept.set(scope, Math.max(kept.get(scope) ?? 0, epoch));
  }

  async seals(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    const kept = this.#of(migration).seals;
    return scopes.map((scope) => kept.get(scope) ?? 0);
  }

  async clearSeals(migration: string): Promise<void> {
    this.#of(migration).seals.clear();
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
