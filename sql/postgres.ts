import { MessagingError } from "../core/errors.ts";

/*
 * Stores read Postgres' answers as texts alone: an application gives its client parsers of its own for any other type, as
 * for float8, bytea or json, and they are global in `pg`.
 */

/** A statement that gives each row of a SELECT as one text, for {@link rowOf}. Its columns may have any type but bytea. */
export function asTexts(select: string): string {
  return `SELECT row_to_json("#row")::text AS row FROM (${select}) "#row"`;
}

/** A row of a statement that {@link asTexts} made. Throws `invalid` for what no server can have sent. */
export function rowOf<Row>(answer: unknown): Row {
  const { row } = answer as { readonly row?: unknown };
  try {
    if (typeof row === "string") return JSON.parse(row) as Row;
  } catch {
    // The engine's own message quotes the text.
  }
  throw notAsSent();
}

/** A whole number that the statement gives as a text. Throws `invalid` for what no server can have sent. */
export function wholeNumber(text: unknown): number {
  const number = typeof text === "string" && /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw notAsSent();
}

function notAsSent(): MessagingError {
  return new MessagingError(
    "invalid",
    "the database client gives back a text of Postgres otherwise than the server sent it: take away its parser for the type text (25), or give the store a client without it",
  );
}
