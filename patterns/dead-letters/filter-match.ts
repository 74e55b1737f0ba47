import { MessagingError } from "../../core/errors.ts";
import type { DeadLetter } from "./dead-letter.ts";
import {
  type Condition,
  type DeadLetterFilter,
  NUMBER_OPERATORS,
  parseFilter,
  TEXT_FIELDS,
  TEXT_OPERATORS,
  type TextField,
  type TextOperator,
  TIME_OPERATORS,
} from "./filter.ts";

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
