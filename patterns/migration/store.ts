/**
 * The store in which the instances of a service and its operators agree on the state of a migration. It can be implemented
 * on any database with atomic changes of one record.
 *
 * For all methods:
 * - `migration` is the name of the migration. Migrations do not affect each other. The caller checks names.
 * - Time is the store's, the same for all processes, never the calling process's clock.
 * - Calls are atomic and may be concurrent. Later calls see what a resolved call wrote.
 * - If the store fails, a call rejects in bounded time with a `MessagingError` (`unreachable`, `unauthorized` and so on).
 *   Its effect is then unknown. The call may be repeated; the store reconnects.
 * - Errors have no credentials.
 */
export interface MigrationStore {
  /** The kind of store in lower case, for messages: `postgres`. */
  readonly name: string;

  /** Reads a migration. One that was never changed has revision 0 and no document. */
  read(migration: string): Promise<StoredMigration>;

  /**
   * Renews the lease of an instance for `leaseMs` from now, with the revision it acts by, and then reads. A change that this
   * reading does not show yet sees the instance.
   */
  beat(migration: string, beat: InstanceBeat): Promise<StoredMigration>;

  /** Removes an instance. */
  leave(migration: string, instance: string): Promise<void>;

  /**
   * Replaces the document and increments the revision, if the revision is `expected`. Of concurrent calls with the same
   * expectation, one succeeds. The document is JSON of at most 64 KiB.
   */
  change(migration: string, expected: number, document: string): Promise<"changed" | "conflict">;

  /** Raises acknowledgements to the given epochs, and never lowers one. At most 1,000 per call. */
  acknowledgeBarrier(migration: string, barrierAcks: readonly BarrierAck[]): Promise<void>;

  /** Returns the epoch of each acknowledgement, in order; 0 if there is none. At most 1,000 per call. */
  barrierAcks(migration: string, scopes: readonly string[]): Promise<readonly number[]>;

  /** Removes every acknowledgement. */
  clearBarrierAcks(migration: string): Promise<void>;

  /** Adds marks to the journal. Repeated marks change nothing. At most 1,000 per call. */
  mark(migration: string, marks: readonly JournalMark[]): Promise<void>;

  /** Returns the journal's counts, for each source that has any. */
  counts(migration: string): Promise<readonly JournalCounts[]>;

  /**
   * Lists ids of a class of one source in character order: at most `limit` ids, those greater than `after`. Folded ids are
   * not listed.
   */
  list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]>;

  /**
   * Removes at most `limit` ids of published and handled messages whose last mark is older than `olderThanMs`. Their number
   * stays in the counts. Resolves with how many.
   */
  fold(migration: string, olderThanMs: number, limit: number): Promise<number>;

  /** Removes a migration. */
  forget(migration: string): Promise<void>;
}

/** A stored migration. */
export interface StoredMigration {
  /** The number of changes of the document. */
  readonly revision: number;
  /** JSON. */
  readonly document: string | undefined;
  /** The instances with a running lease. */
  readonly instances: readonly StoredInstance[];
  /** The store's time, in milliseconds since 1970. */
  readonly now: number;
}

/** What an instance writes about itself. */
export interface InstanceBeat {
  readonly instance: string;
  /** The revision that it acts by; -1 before it has read any. */
  readonly acting: number;
  readonly leaseMs: number;
  /** Its report: JSON of at most 16 KiB. */
  readonly report: string;
}

/** An instance, as others read it. */
export interface StoredInstance {
  readonly instance: string;
  readonly acting: number;
  readonly report: string;
  /** The rest of its lease. */
  readonly remainingMs: number;
}

/** Everything of a key before an epoch is handled at one side. */
export interface BarrierAck {
  /** At most 64 characters of printable ASCII. */
  readonly scope: string;
  readonly epoch: number;
}

/** What is recorded of a message. */
export type MarkKind = "published" | "handled" | "dead";

/** One mark in the journal. */
export interface JournalMark {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  /** At most 256 characters of printable ASCII, compared byte by byte. Other ids are replaced by their hash. */
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
