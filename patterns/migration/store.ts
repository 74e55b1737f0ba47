/**
 * Where the instances of a service and its operators agree how far a migration is. Implementable on any database that can
 * change one record at a time atomically.
 *
 * For all methods:
 * - `migration` is the name of the migration; nothing of one touches another. Names are checked by the caller.
 * - Time is the store's own, the same for all processes: never the clock of the process that calls.
 * - Calls may be made at any time, from many processes, and are atomic each. What resolved is seen by every later call.
 * - A call rejects with a `MessagingError`, in bounded time, if the store cannot be asked (`unreachable`, `unauthorized`,
 *   …), and may be made again later: the store mends its connection by itself. What a rejected call did is unknown.
 * - No error holds a credential.
 */
export interface MigrationStore {
  /** What the store is, in lower case, as messages to people say it: `postgres`. */
  readonly name: string;

  /** What is known of a migration. Of one that was never changed: revision 0 and no document. */
  read(migration: string): Promise<StoredMigration>;

  /**
   * Notes an instance as alive for `leaseMs` from now, with the revision it acts by, and then reads: whoever is noted here
   * is seen by every change that this call does not show yet.
   */
  beat(migration: string, beat: InstanceBeat): Promise<StoredMigration>;

  /** Forgets an instance that acts no more. */
  leave(migration: string, instance: string): Promise<void>;

  /**
   * Replaces the document, and counts the revision up by one, if it is `expected` still. Of any number of calls with one
   * expectation, one changes. The document is a JSON text of at most 64 KiB.
   */
  change(migration: string, expected: number, document: string): Promise<"changed" | "conflict">;

  /** Raises the acknowledgements to the epochs given; one that is higher stays. At most 1,000 at a time. */
  acknowledgeBarrier(migration: string, barrierAcks: readonly BarrierAck[]): Promise<void>;

  /** The epoch of each acknowledgement, in order; 0 where there is none. At most 1,000 at a time. */
  barrierAcks(migration: string, scopes: readonly string[]): Promise<readonly number[]>;

  /** Removes every acknowledgement. */
  clearBarrierAcks(migration: string): Promise<void>;

  /** Adds marks to the journal; one that is there stays. At most 1,000 at a time. */
  mark(migration: string, marks: readonly JournalMark[]): Promise<void>;

  /** The journal's numbers, for each source that has any. */
  counts(migration: string): Promise<readonly JournalCounts[]>;

  /**
   * Ids of a source that are in a class, in the order of their characters, those after `after` only, at most `limit`: for
   * the differences, page by page. What was folded is in none.
   */
  list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]>;

  /**
   * Forgets the ids of at most `limit` messages that are published and handled, and had their last mark longer ago than
   * `olderThanMs`; their numbers stay in the counts. Resolves with how many.
   */
  fold(migration: string, olderThanMs: number, limit: number): Promise<number>;

  /** Forgets everything of a migration. */
  forget(migration: string): Promise<void>;
}

/** What stands in a store. */
export interface StoredMigration {
  /** How often the document was changed. */
  readonly revision: number;
  /** JSON. */
  readonly document: string | undefined;
  /** The instances whose lease is not over. */
  readonly instances: readonly StoredInstance[];
  /** The store's time, in milliseconds since 1970. */
  readonly now: number;
}

/** What an instance says of itself. */
export interface InstanceBeat {
  readonly instance: string;
  /** The revision that it acts by; -1 before it has seen any. */
  readonly acting: number;
  readonly leaseMs: number;
  /** What else it says of itself: a JSON text of at most 16 KiB. */
  readonly report: string;
}

/** An instance as others see it. */
export interface StoredInstance {
  readonly instance: string;
  readonly acting: number;
  readonly report: string;
  /** How long its lease goes on unless it is renewed. */
  readonly remainingMs: number;
}

/** Says that everything of a key before an epoch is done at one side. */
export interface BarrierAck {
  /** 64 characters at most, of printable ASCII. */
  readonly scope: string;
  readonly epoch: number;
}

/** What may be noted of a message. */
export type MarkKind = "published" | "handled" | "dead";

/** One mark in the journal. */
export interface JournalMark {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  /** At most 256 characters of printable ASCII, told apart exactly: other ids come as their hash. */
  readonly id: string;
  readonly mark: MarkKind;
}

/**
 * - `missing`: published, and neither handled nor dead.
 * - `dead`: dead, and not handled.
 * - `unexpected`: handled, and not published as far as the journal knows.
 */
export type JournalClass = "missing" | "dead" | "unexpected";

/** How many messages of a source have which marks. */
export interface JournalCounts {
  readonly source: string;
  readonly published: number;
  readonly handled: number;
  readonly missing: number;
  readonly dead: number;
  readonly unexpected: number;
}
