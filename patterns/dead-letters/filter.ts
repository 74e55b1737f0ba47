/** `=` and `!=` compare all of a text, `~` and `!~` look for a part of it, whatever its case. */
export type TextOperator = "=" | "!=" | "~" | "!~";

/** How numbers and ages are compared. */
export type NumberOperator = "=" | "!=" | "<" | "<=" | ">" | ">=";

/** How times are compared. */
export type TimeOperator = "<" | "<=" | ">" | ">=";

/**
 * A text of an entry:
 * - `id`: the entry's own id, or the message's.
 * - `destination`, `reason`, `key`, `group` (the fingerprint): as in the entry.
 * - `error`: the class of the error, or its message; a `!` asks it of both.
 */
export type TextField = "id" | "destination" | "reason" | "key" | "group" | "error";

/** One thing that is asked of an entry. What an entry does not have is equal to nothing and holds no part. */
export type Condition =
  | { readonly field: TextField; readonly is: TextOperator; readonly value: string }
  /** One of these. */
  | { readonly field: TextField; readonly is: "in"; readonly value: readonly string[] }
  | { readonly field: "header"; readonly name: string; readonly is: TextOperator; readonly value: string }
  | { readonly field: "header"; readonly name: string; readonly is: "in"; readonly value: readonly string[] }
  | { readonly field: "attempts" | "replays"; readonly is: NumberOperator; readonly value: number }
  /** When it failed last: an ISO 8601 time. */
  | { readonly field: "time"; readonly is: TimeOperator; readonly value: string }
  /** How long ago it failed last, in milliseconds. */
  | { readonly field: "age"; readonly is: TimeOperator; readonly value: number };

/**
 * What entries are chosen by, the same for `list`, `count`, `groups`, `replay` and `discard`: all of the conditions have to
 * hold. None selects every entry.
 */
export type Filter = readonly Condition[];

export const TEXT_FIELDS: readonly TextField[] = ["id", "destination", "reason", "key", "group", "error"];
export const TEXT_OPERATORS: readonly TextOperator[] = ["=", "!=", "~", "!~"];
export const NUMBER_OPERATORS: readonly NumberOperator[] = ["=", "!=", "<", "<=", ">", ">="];
export const TIME_OPERATORS: readonly TimeOperator[] = ["<", "<=", ">", ">="];
