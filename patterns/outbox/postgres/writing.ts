import { MessagingError } from "../../../core/index.ts";
import type { NewOutboxRow } from "../store.ts";
import type { PostgresTransaction } from "./database.ts";
import { outboxFailure } from "./failure.ts";
import { laneOf } from "./lanes.ts";
import type { Tables } from "./tables.ts";

/** Each value once and in order, and none of them a list: so that the placeholders of any client can take their place. */
const COLUMNS: readonly (readonly [name: string, value: (placeholder: string) => string])[] = [
  ["lane", (at) => `${at}::smallint`],
  ["id", (at) => `${at}::text`],
  ["kind", (at) => `${at}::text`],
  ["destination", (at) => `${at}::text`],
  ["key", (at) => `${at}::text`],
  ["routing_key", (at) => `${at}::text`],
  ["headers", (at) => `${at}::json`],
  ["body", (at) => `${at}::bytea`],
  ["content_type", (at) => `${at}::text`],
  ["priority", (at) => `${at}::smallint`],
  ["due_at", (at) => `clock_timestamp() + ${at}::float8 * interval '1 millisecond'`],
  ["expires_at", (at) => `to_timestamp(${at}::float8 / 1000)`],
  ["ordered", (at) => `${at}::boolean`],
  ["discard_unroutable", (at) => `${at}::boolean`],
];
const NAMES = COLUMNS.map(([name]) => name).join(", ");
/** The protocol's limit of values to a statement. */
const MOST_VALUES = 65_535;
const MOST_ROWS = Math.floor(MOST_VALUES / COLUMNS.length);

/** Writes rows with the caller's own connection. */
export class Writer {
  readonly #tables: Tables;
  readonly #notify: boolean;
  /** The statement for one row, by far the most frequent. */
  readonly #single: string;

  constructor(tables: Tables, notify: boolean) {
    this.#tables = tables;
    this.#notify = notify;
    this.#single = this.#statement(1);
  }

  async insert(transaction: PostgresTransaction, rows: readonly NewOutboxRow[]): Promise<void> {
    checkTransaction(transaction);
    for (let first = 0; first < rows.length; first += MOST_ROWS) {
      const some = rows.slice(first, first + MOST_ROWS);
      const text = some.length === 1 ? this.#single : this.#statement(some.length);
      try {
        await transaction.query(text, some.flatMap(valuesOf));
      } catch (error) {
        throw outboxFailure("take messages", error);
      }
    }
  }

  #statement(count: number): string {
    const width = COLUMNS.length;
    const row = (_: unknown, index: number): string =>
      `(${COLUMNS.map(([, value], column) => value(`$${index * width + column + 1}`)).join(", ")})`;
    const values = Array.from({ length: count }, row).join(",\n");
    const insert = `INSERT INTO ${this.#tables.outbox} (${NAMES}) VALUES\n${values}`;
    if (!this.#notify) return insert;
    return `WITH "#written" AS (\n${insert})\nSELECT pg_notify('${this.#tables.channel}', '')`;
  }
}

function valuesOf(row: NewOutboxRow): unknown[] {
  const { body, headers } = row;
  const isEmpty = Object.keys(headers).length === 0;
  return [
    laneOf(row),
    row.id,
    row.to.kind,
    row.to.name,
    row.key ?? null,
    row.routingKey ?? null,
    isEmpty ? null : JSON.stringify(headers),
    Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength),
    row.contentType,
    row.priority,
    row.delayMs === 0 ? null : row.delayMs,
    row.expiresAt ?? null,
    row.ordered,
    row.discardUnroutable,
  ];
}

/** What can be told of a connection, so that no message goes its own way. */
interface Connection extends PostgresTransaction {
  /** Only pools have it. */
  readonly idleCount?: unknown;
  /** `I` is idle; newer clients of `pg` have it. */
  getTransactionStatus?(): unknown;
}

function checkTransaction(transaction: Connection): void {
  if (typeof transaction?.query !== "function" || "idleCount" in transaction) {
    throw new MessagingError(
      "invalid",
      "the outbox takes the client whose transaction is open, or an executor { query(text, values) } for it, and no pool. Nothing was written",
    );
  }
  if (transaction.getTransactionStatus?.() === "I") {
    throw new MessagingError(
      "invalid",
      "the outbox was given a client without an open transaction: await BEGIN before. Nothing was written",
    );
  }
}
