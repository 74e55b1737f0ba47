import { MessagingError } from "../../core/errors.ts";
import type { DeadLetter } from "./dead-letter.ts";

/** `=` and `!=` compare the whole text. `~` and `!~` search for a part, ignoring case. */
export type TextOperator = "=" | "!=" | "~" | "!~";

/** Compares numbers. */
export type NumberOperator = "=" | "!=" | "<" | "<=" | ">" | ">=";

/** Compares times and ages. */
export type TimeOperator = "<" | "<=" | ">" | ">=";

/**
 * A text of an entry:
 * - `id`: the id of the entry, or of the message.
 * - `destination`, `reason`, `key`, `group` (the fingerprint): as in the entry.
 * - `error`: the class of the error, or its message. `!=` and `!~` test both.
 */
export type TextField = "id" | "destination" | "reason" | "key" | "group" | "error";

/** One condition on an entry. A missing value equals nothing and contains nothing. */
export type Condition =
  | { readonly field: TextField; readonly is: TextOperator; readonly value: string }
  /** Equal to one of the values. */
  | { readonly field: TextField; readonly is: "in"; readonly value: readonly string[] }
  | { readonly field: "header"; readonly name: string; readonly is: TextOperator; readonly value: string }
  | { readonly field: "header"; readonly name: string; readonly is: "in"; readonly value: readonly string[] }
  | { readonly field: "attempts" | "replays"; readonly is: NumberOperator; readonly value: number }
  /** The time of the last failure: an ISO 8601 time. */
  | { readonly field: "time"; readonly is: TimeOperator; readonly value: string }
  /** The time since the last failure, in milliseconds. */
  | { readonly field: "age"; readonly is: TimeOperator; readonly value: number };

/**
 * Selects entries for `list`, `count`, `groups`, `replay` and `discard`: those for which all conditions hold. Without
 * conditions it selects every entry.
 */
export type DeadLetterFilter = readonly Condition[];

const TEXT_FIELDS: readonly TextField[] = ["id", "destination", "reason", "key", "group", "error"];
const TEXT_OPERATORS: readonly TextOperator[] = ["=", "!=", "~", "!~"];
const NUMBER_OPERATORS: readonly NumberOperator[] = ["=", "!=", "<", "<=", ">", ">="];
const TIME_OPERATORS: readonly TimeOperator[] = ["<", "<=", ">", ">="];

const UNITS = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;

/** Parses a duration such as `90s`, `1h` or `500ms`, in milliseconds; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  const [, digits = "", unit = ""] = /^(\d+)(ms|[smhdw])$/.exec(text.toLowerCase()) ?? [];
  const milliseconds = Number(digits) * (UNITS[unit as keyof typeof UNITS] ?? Number.NaN);
  return digits !== "" && Number.isSafeInteger(milliseconds) ? milliseconds : undefined;
}

/** Formats milliseconds as the shortest duration. */
export function formatDuration(milliseconds: number): string {
  for (const [unit, size] of Object.entries(UNITS)) {
    if (milliseconds > 0 && milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${milliseconds}ms`;
}

const LONGEST = 10_000;
const TOKEN = /\s*(?:(?<quoted>"(?:[^"\\]|\\.)*")|(?<sign>!=|!~|<=|>=|[=~<>(),])|(?<word>[^\s"=!~<>(),]+))/suy;

interface Token {
  readonly at: number;
  readonly kind: "quoted" | "sign" | "word";
  /** For a quoted token: the text between the quotes. */
  readonly text: string;
  /** Whether it follows the token before without white space. */
  readonly joined: boolean;
}

/** The tokens of a filter, taken one by one. */
class FilterTokens {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #next = 0;

  /** Throws `invalid` for characters that no token has. */
  constructor(text: string) {
    if (text.length > LONGEST) throw new MessagingError("invalid", `a filter has at most ${LONGEST} characters`);
    this.#text = text;
    this.#tokens = split(text);
  }

  get end(): boolean {
    return this.#next === this.#tokens.length;
  }

  /** Takes a keyword if it is next. */
  takeWord(keyword: string): boolean {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "word" || token.text.toLowerCase() !== keyword) return false;
    this.#next++;
    return true;
  }

  /** Takes `header.<name>` if it is next. */
  takeHeader(): string | undefined {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "word" || !/^header\./i.test(token.text)) return undefined;
    this.#next++;
    const name = token.text.slice("header.".length);
    if (name !== "") return name;
    const quoted = this.#tokens[this.#next];
    if (quoted?.kind !== "quoted" || !quoted.joined || quoted.text === "") return this.refuse("the name of a header");
    this.#next++;
    return quoted.text;
  }

  word(expected: string): string {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "word") return this.refuse(expected);
    this.#next++;
    return token.text;
  }

  /** `or` names another token that is possible here, for the error. */
  operator(operators: readonly string[], or?: string): string {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "sign" || !operators.includes(token.text)) {
      return this.refuse([...operators, ...(or === undefined ? [] : [or])].join(" "));
    }
    this.#next++;
    return token.text;
  }

  /** Takes a word or a quoted text that `read` accepts. */
  value<Value>(expected: string, read: (text: string) => Value | undefined): Value {
    const token = this.#tokens[this.#next];
    const value = token === undefined || token.kind === "sign" ? undefined : read(token.text);
    if (value === undefined) return this.refuse(expected);
    this.#next++;
    return value;
  }

  /** Takes `(a, b, …)`. */
  list(): readonly string[] {
    this.operator(["("]);
    const values = [this.value("a text", (text) => text)];
    while (this.operator([",", ")"]) === ",") values.push(this.value("a text", (text) => text));
    return values;
  }

  refuse(expected: string): never {
    throw expectation(expected, this.#tokens[this.#next]?.at ?? this.#text.length, this.#text);
  }

  /** As {@link refuse}, for the token that was taken last. */
  refuseLast(expected: string): never {
    throw expectation(expected, this.#tokens[this.#next - 1]?.at ?? 0, this.#text);
  }
}

function split(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let from = 0;
  while (text.slice(from).trim() !== "") {
    TOKEN.lastIndex = from;
    const match = TOKEN.exec(text);
    const blank = /^\s*/.exec(text.slice(from))?.[0].length ?? 0;
    if (match === null) throw expectation("a word, an operator, or a text in double quotes", from + blank, text);
    const { quoted, sign, word } = match.groups ?? {};
    const at = from + blank;
    const joined = blank === 0 && from > 0;
    if (quoted !== undefined) tokens.push({ at, kind: "quoted", text: unquoted(quoted, at, text), joined });
    else if (sign !== undefined) tokens.push({ at, kind: "sign", text: sign, joined });
    else tokens.push({ at, kind: "word", text: word ?? "", joined });
    from = TOKEN.lastIndex;
  }
  return tokens;
}

function unquoted(quoted: string, at: number, text: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    throw expectation("a text in double quotes, escaped as in JSON", at, text);
  }
}

function expectation(expected: string, at: number, text: string): MessagingError {
  const found = at >= text.length ? "its end" : JSON.stringify(text.slice(at, at + 20));
  return new MessagingError(
    "invalid",
    `the filter cannot be read at character ${at + 1}, ${found}: expected ${expected}`,
  );
}

/** The text of a filter without conditions. */
const ALL = "all";
const BARE = /^[\p{L}\p{N}_.:@/+*%-]+$/u;
const FIELDS =
  "id, destination, reason, key, group, error, header.<name>, attempts, replays, time, age, since or until";

/**
 * Parses the text of a filter: conditions joined by `and`, or `all`.
 *
 * ```text
 * reason = attempts and error ~ "timeout" and age > 1h and header.tenant = acme
 * id in (a, b) and attempts >= 3 and since 2026-11-01T00:00:00Z and until 2026-11-02
 * ```
 *
 * Put a text with spaces or operators into double quotes, escaped as in JSON. Ages have the units `ms`, `s`, `m`, `h`, `d`
 * and `w`. `since` and `until` mean `time >=` and `time <`. Throws `invalid` with the position and what was expected.
 */
export function parseFilter(text: string): DeadLetterFilter {
  const tokens = new FilterTokens(text);
  if (tokens.end)
    throw new MessagingError("invalid", `an empty filter is not allowed: use "${ALL}" to select every entry`);
  if (tokens.takeWord(ALL)) {
    if (!tokens.end) tokens.refuse("the end");
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
      return { field, is, value: tokens.value("an integer from 0 up", wholeNumber) };
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

/** Formats a filter as text. {@link parseFilter} reads it as the same filter. */
export function printFilter(filter: DeadLetterFilter): string {
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

/**
 * Makes a filter from conditions or their text. With `source`, conditions are checked against it. Throws `invalid`, also for
 * a value that no entry can have.
 */
export function filterOf(where: string, given: DeadLetterFilter | string, source?: string): DeadLetterFilter {
  const filter = typeof given === "string" ? parseFilter(given) : checked(where, given);
  for (const condition of filter) refuseImpossible(where, condition, source);
  return filter;
}

function checked(where: string, given: unknown): DeadLetterFilter {
  if (!Array.isArray(given)) {
    throw new MessagingError("invalid", `${where} takes a filter: a text, or a list of conditions`);
  }
  return (given as readonly unknown[]).map((condition, index) =>
    checkCondition(`${where}: condition ${index}`, condition),
  );
}

/** The reasons; a foreign dead letter has `unknown`. */
const REASONS = ["attempts", "invalid", "rejected", "crashed", "expired", "unknown"] as const;
const GROUP = /^[0-9a-f]{12}$/;
const PART_OF_GROUP = /^[0-9a-f]{0,12}$/i;

/** Refuses a value that no entry can have: it would select nothing, or with a `!` everything. */
function refuseImpossible(where: string, { field, is, value }: Condition, source: string | undefined): void {
  const isPart = is === "~" || is === "!~";
  for (const one of typeof value === "object" ? value : [String(value)]) {
    const instead = impossible(field, one, isPart, source);
    if (instead === undefined) continue;
    throw new MessagingError(
      "invalid",
      `${where}: ${field} ${is} ${JSON.stringify(one)} can match nothing: ${instead}`,
    );
  }
}

/** The values that are possible; undefined if the value is one of them. */
function impossible(
  field: Condition["field"],
  value: string,
  isPart: boolean,
  source: string | undefined,
): string | undefined {
  const part = value.toLowerCase();
  switch (field) {
    case "reason":
      if (REASONS.some((reason) => (isPart ? reason.includes(part) : reason === value))) return undefined;
      return `a reason is one of ${REASONS.join(", ")}`;
    case "group":
      if ((isPart ? PART_OF_GROUP : GROUP).test(value)) return undefined;
      return "a group is 12 hexadecimal digits, as shown by dlq groups";
    case "destination":
      if (source === undefined || (isPart ? source.toLowerCase().includes(part) : source === value)) return undefined;
      return `these are the dead letters of ${source}`;
    default:
      return undefined;
  }
}

function checkCondition(where: string, given: unknown): Condition {
  const condition = given as { field?: unknown; name?: unknown; is?: unknown; value?: unknown } | null | undefined;
  const { field, name, is, value } = condition ?? {};
  const refuse = (what: string): never => {
    throw new MessagingError("invalid", `${where} ${what}`);
  };
  const oneOf = (operators: readonly string[]): void => {
    if (!operators.includes(is as string)) refuse(`takes ${operators.join(", ")}, not ${String(is)}`);
  };
  if (field === "header" && (typeof name !== "string" || name === "")) refuse("on a header takes a name");
  switch (field) {
    case "attempts":
    case "replays":
      oneOf(NUMBER_OPERATORS);
      if (!Number.isSafeInteger(value) || (value as number) < 0) refuse("takes an integer from 0 up");
      break;
    case "age":
      oneOf(TIME_OPERATORS);
      if (!Number.isSafeInteger(value) || (value as number) < 0) refuse("takes integer milliseconds from 0 up");
      break;
    case "time":
      oneOf(TIME_OPERATORS);
      if (typeof value !== "string" || Number.isNaN(Date.parse(value))) refuse("takes an ISO 8601 time");
      break;
    default:
      if (field !== "header" && !TEXT_FIELDS.includes(field as TextField)) {
        refuse(
          `has no field ${String(field)}; the fields are ${[...TEXT_FIELDS, "header", "attempts", "replays", "time", "age"].join(", ")}`,
        );
      }
      oneOf([...TEXT_OPERATORS, "in"]);
      if (is === "in") {
        const texts = Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "string");
        if (!texts) refuse("takes a list of strings");
      } else if (typeof value !== "string") refuse("takes a string");
  }
  return condition as Condition;
}

/** Makes the test of a filter. Ages are computed up to `now`, in milliseconds since 1970. */
export function matcher(filter: DeadLetterFilter, now: number): (letter: DeadLetter) => boolean {
  const tests = filter.map((condition) => conditionTest(condition, now));
  return (letter) => tests.every((test) => test(letter));
}

type Test = (letter: DeadLetter) => boolean;

function conditionTest(condition: Condition, now: number): Test {
  switch (condition.field) {
    case "attempts":
    case "replays": {
      const { field, is, value } = condition;
      return (letter) => compare(letter[field], is, value);
    }
    case "age":
      return ({ lastFailedAt }) =>
        compare(lastFailedAt === undefined ? undefined : now - lastFailedAt, condition.is, condition.value);
    case "time": {
      const value = Date.parse(condition.value);
      return ({ lastFailedAt }) => compare(lastFailedAt, condition.is, value);
    }
    case "header": {
      const { name, is, value } = condition;
      return textTest(({ message }) => [message.headers[name]], is, value);
    }
    default:
      return textTest(TEXTS[condition.field], condition.is, condition.value);
  }
}

type Texts = (letter: DeadLetter) => readonly (string | undefined)[];

const TEXTS: Readonly<Record<TextField, Texts>> = {
  id: ({ id, message }) => [id, message.id],
  destination: ({ destination }) => [destination],
  reason: ({ reason }) => [reason],
  key: ({ message }) => [message.key],
  group: ({ group }) => [group],
  error: ({ errorClass, error }) => [errorClass, error],
};

function textTest(texts: Texts, is: TextOperator | "in", value: string | readonly string[]): Test {
  if (typeof value !== "string") {
    const values = new Set(value);
    return (letter) => texts(letter).some((text) => text !== undefined && values.has(text));
  }
  const part = value.toLowerCase();
  const equals: Test = (letter) => texts(letter).includes(value);
  const contains: Test = (letter) => texts(letter).some((text) => text?.toLowerCase().includes(part));
  switch (is) {
    case "=":
      return equals;
    case "!=":
      return (letter) => !equals(letter);
    case "~":
      return contains;
    default:
      return (letter) => !contains(letter);
  }
}

function compare(given: number | undefined, is: string, value: number): boolean {
  if (given === undefined) return is === "!=";
  switch (is) {
    case "=":
      return given === value;
    case "!=":
      return given !== value;
    case "<":
      return given < value;
    case "<=":
      return given <= value;
    case ">":
      return given > value;
    default:
      return given >= value;
  }
}
