import { checkInteger, checkOptions, LONGEST_MS } from "../../../core/checks.ts";
import { type Clock, MessagingError, systemClock } from "../../../core/index.ts";
import { rowOf, wholeNumber } from "../../../sql/postgres.ts";
import type {
  NewOutboxRow,
  OutboxClaim,
  OutboxClaimRequest,
  OutboxHealth,
  OutboxSettlement,
  OutboxStore,
  QuarantinedRow,
} from "../store.ts";
import { Asking } from "./asking.ts";
import { Claims } from "./claims.ts";
import type { PostgresOutboxDatabase, PostgresTransaction } from "./database.ts";
import { healthOf, healthStatement, type StoredHealth } from "./health.ts";
import { LaneWatch } from "./lane-watch.ts";
import { Listening } from "./listening.ts";
import { outboxVersions } from "./migrations.ts";
import { quarantinedRow } from "./rows.ts";
import { type Statements, statements } from "./statements.ts";
import { type PostgresOutboxTableOptions, type Tables, tablesOf } from "./tables.ts";
import { Writer } from "./writing.ts";

/** The options of {@link postgresOutbox}. */
export interface PostgresOutboxOptions extends PostgresOutboxTableOptions {
  /**
   * For how long sent rows are kept, in milliseconds, in a table of their own, which claims never read. Give all relays the
   * same: each removes what is older than it was told. Default 0: rows are removed when they are sent.
   */
  readonly keepSentMs?: number;
  /**
   * Whether writers wake relays by NOTIFY at their commit, and relays listen on a connection of the pool. It saves a relay
   * its wait for the next poll, and makes commits of writers go one after another. Default false.
   */
  readonly notify?: boolean;
  /** Milliseconds after which a call that got no answer rejects with `unreachable`; but for writing. Default 5,000. */
  readonly timeoutMs?: number;
  /** From which age on, in milliseconds, an open transaction or an expired claim is a stall in `health`. Default 60,000. */
  readonly stallAfterMs?: number;
}

/** An outbox in a Postgres database. */
export interface PostgresOutbox extends OutboxStore<PostgresTransaction> {
  /**
   * Makes the tables, or brings older ones up to date, unless they are so already; also if many do at once. Lanes that
   * somebody deleted are made again. Only where there
   * is something to do it needs the right to create in the schema. Rejects like the other calls, and with `not-found` if
   * there is no such schema.
   */
  migrate(): Promise<void>;
}

const OPTIONS = ["table", "schema", "keepSentMs", "notify", "timeoutMs", "stallAfterMs"];
const WHERE = "postgresOutbox";

/**
 * An outbox in a Postgres database, for `createOutbox` and `createRelay`. Its time is the database server's.
 *
 * Messages are written with the caller's own connection. Everything else goes to `database`, each call a transaction of its
 * own: give it a pool, never a client with an open transaction. The store never ends the pool. A claim has to be settled
 * and renewed by the store object that made it. Throws `invalid` for wrong options.
 *
 * Claims lock lanes, into which keys are divided by a hash, in place of rows. So a row is written once and removed once,
 * and of a key in flight nobody else can see the next row.
 */
export function postgresOutbox(database: PostgresOutboxDatabase, options: PostgresOutboxOptions = {}): PostgresOutbox {
  checkOptions(WHERE, options, OPTIONS);
  const { keepSentMs = 0, notify = false, timeoutMs = 5_000, stallAfterMs = 60_000 } = options;
  const tables = tablesOf(WHERE, options);
  checkInteger(`${WHERE} { keepSentMs }`, keepSentMs, 0, LONGEST_MS);
  checkInteger(`${WHERE} { timeoutMs }`, timeoutMs, 1);
  checkInteger(`${WHERE} { stallAfterMs }`, stallAfterMs, 0, LONGEST_MS);
  if (typeof notify !== "boolean") throw new MessagingError("invalid", `${WHERE} { notify } takes true or false`);
  return new PostgresStore(database, tables, { keepSentMs, notify, timeoutMs, stallAfterMs });
}

type Settings = Required<Omit<PostgresOutboxOptions, "table" | "schema">>;

class PostgresStore implements PostgresOutbox {
  readonly name = "postgres";
  readonly #tables: Tables;
  readonly #settings: Settings;
  readonly #statements: Statements;
  readonly #asking: Asking;
  readonly #watch: LaneWatch;
  readonly #claims: Claims;
  readonly #writer: Writer;
  readonly #clock: Clock = systemClock();
  readonly listen?: (wake: () => void) => Promise<() => Promise<void>>;

  constructor(database: PostgresOutboxDatabase, tables: Tables, settings: Settings) {
    this.#tables = tables;
    this.#settings = settings;
    this.#statements = statements(tables, settings.keepSentMs > 0);
    this.#asking = new Asking(database, this.#clock, settings.timeoutMs);
    this.#watch = new LaneWatch(this.#asking, this.#statements, this.#clock);
    this.#claims = new Claims(this.#asking, this.#statements, this.#clock, this.#watch);
    this.#writer = new Writer(tables, settings.notify);
    if (settings.notify && database.connect !== undefined) {
      this.listen = async (wake) => {
        const listening = new Listening(database, tables.channel, this.#clock, wake);
        await listening.begin();
        return () => listening.end();
      };
    }
  }

  async migrate(): Promise<void> {
    await this.#asking.rows("make the tables", outboxVersions(this.#tables).migration());
  }

  insert(transaction: PostgresTransaction, rows: readonly NewOutboxRow[]): Promise<void> {
    return this.#writer.insert(transaction, rows);
  }

  claim(request: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    return this.#claims.claim(request);
  }

  renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    return this.#claims.renew(token, leaseMs);
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    return this.#claims.settle(token, settlements);
  }

  async listQuarantined({
    limit,
    after = Number.MIN_SAFE_INTEGER,
  }: {
    readonly limit: number;
    readonly after?: number;
  }): Promise<readonly QuarantinedRow[]> {
    const text = this.#statements.listQuarantined;
    const rows = await this.#asking.rows("list what is quarantined", text, [after, limit]);
    return rows.map((row) => quarantinedRow(rowOf(row)));
  }

  retryQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    return this.#change("retry what is quarantined", this.#statements.retryQuarantined, positions);
  }

  discardQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    return this.#change("discard what is quarantined", this.#statements.discardQuarantined, positions);
  }

  async #change(action: string, text: string, positions: readonly number[]): Promise<readonly number[]> {
    const rows = await this.#asking.rows<{ readonly position: unknown }>(action, text, [positions]);
    return rows.map(({ position }) => wholeNumber(position));
  }

  async clean(limit: number): Promise<number> {
    const { keepSentMs } = this.#settings;
    const [row] = await this.#asking.rows<{ readonly removed: unknown }>("clean up", this.#statements.clean, [
      limit,
      keepSentMs,
    ]);
    return wholeNumber(row?.removed);
  }

  async health(): Promise<OutboxHealth> {
    const [row] = await this.#asking.rows("tell its health", healthStatement(this.#tables));
    const stored = rowOf<StoredHealth>(row);
    if (stored.lost_lanes > 0) this.#watch.wake();
    return healthOf(stored, this.#settings.stallAfterMs);
  }
}
