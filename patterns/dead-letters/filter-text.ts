import { MessagingError } from "../../core/errors.ts";
import { formatDuration, parseDuration } from "./duration.ts";
import {
  type Condition,
  type Filter,
  NUMBER_OPERATORS,
  type NumberOperator,
  TEXT_FIELDS,
  TEXT_OPERATORS,
  type TextField,
  type TextOperator,
  TIME_OPERATORS,
  type TimeOperator,
} from "./filter.ts";
import { FilterTokens } from "./filter-tokens.ts";

/** What selects every entry, said aloud. */
const ALL = "all";
const BARE = /^[\p{L}\p{N}_.:@/+*%-]+$/u;
const FIELDS =
  "id, destination, reason, key, group, error, header.<name>, attempts, replays, time, age, since or until";

/**
 * Reads the text form of a filter: conditions with `and` between them, or `all`.
 *
 * ```text
 * reason = attempts and error ~ "timeout" and age > 1h and header.tenant = acme
 * id in (a, b) and attempts >= 3 and since 2026-11-01T00:00:00Z and until 2026-11-02
 * ```
 *
 * A text with spaces or signs in it stands in double quotes, escaped as in JSON. Ages are numbers with `ms`, `s`, `m`, `h`,
 * `d` or `w`; `since` and `until` are `time >=` and `time <`. Throws `invalid`, with the place and what was expected there.
 */
export function parseFilter(text: string): Filter {
  const tokens = new FilterTokens(text);
  if (tokens.end)
    throw new MessagingError("invalid", `an empty filter selects nothing by itself: say "${ALL}" for every entry`);
  if (tokens.takeWord(ALL)) {
    if (!tokens.end) tokens.refuse("nothing behind it");
    return [];
  }
  const conditions = [condition(tokens)];
  while (!tokens.end) {
    if (!tokens.takeWord("and")) tokens.refuse("and");
    conditions.push(condition(tokens));
  }
  return conditions;
}

function condition(tokens: FilterTokens): Condition {
  const header = tokens.takeHeader();
  if (header !== undefined) return textCondition(tokens, { field: "header", name: header });
  const field = tokens.word(FIELDS).toLowerCase();
  if ((TEXT_FIELDS as readonly string[]).includes(field)) return textCondition(tokens, { field: field as TextField });
  switch (field) {
    case "attempts":
    case "replays": {
      const is = tokens.operator(NUMBER_OPERATORS) as NumberOperator;
      return { field, is, value: tokens.value("a whole number", wholeNumber) };
    }
    case "age": {
      const is = tokens.operator(TIME_OPERATORS) as TimeOperator;
      return { field, is, value: tokens.value("an age such as 90s, 15m, 1h or 2d", parseDuration) };
    }
    case "time":
      return { field, is: tokens.operator(TIME_OPERATORS) as TimeOperator, value: time(tokens) };
    case "since":
      return { field: "time", is: ">=", value: time(tokens) };
    case "until":
      return { field: "time", is: "<", value: time(tokens) };
    default:
      return tokens.refuseLast(FIELDS);
  }
}

type TextTarget = { readonly field: TextField } | { readonly field: "header"; readonly name: string };

function textCondition(tokens: FilterTokens, target: TextTarget): Condition {
  if (tokens.takeWord("in")) return { ...target, is: "in", value: tokens.list() };
  const is = tokens.operator(TEXT_OPERATORS, "in") as TextOperator;
  return { ...target, is, value: tokens.value("a text", (value) => value) };
}

function wholeNumber(text: string): number | undefined {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

function time(tokens: FilterTokens): string {
  return tokens.value("an ISO 8601 time such as 2026-11-01T00:00:00Z", (text) => {
    const milliseconds = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
    return Number.isNaN(milliseconds) ? undefined : new Date(milliseconds).toISOString();
  });
}

/** Writes a filter as text that {@link parseFilter} reads as the same. */
export function printFilter(filter: Filter): string {
  return filter.length === 0 ? ALL : filter.map(printCondition).join(" and ");
}

function printCondition(condition: Condition): string {
  const field = condition.field === "header" ? `header.${printText(condition.name)}` : condition.field;
  return `${field} ${condition.is} ${printValue(condition)}`;
}

function printValue({ field, value }: Condition): string {
  if (field === "age") return formatDuration(value);
  if (field === "time") return new Date(value).toISOString();
  if (typeof value === "object") return `(${value.map(printText).join(", ")})`;
  return typeof value === "number" ? String(value) : printText(value);
}

function printText(text: string): string {
  return BARE.test(text) && text.isWellFormed() ? text : JSON.stringify(text);
}
