import type { DeadLetter } from "./dead-letter.ts";
import type { Condition, Filter, TextField, TextOperator } from "./filter.ts";

/** Tells whether a dead letter is selected; ages are counted up to `now`, in milliseconds since 1970. */
export function matcher(filter: Filter, now: number): (letter: DeadLetter) => boolean {
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
  const holds: Test = (letter) => texts(letter).some((text) => text?.toLowerCase().includes(part));
  switch (is) {
    case "=":
      return equals;
    case "!=":
      return (letter) => !equals(letter);
    case "~":
      return holds;
    default:
      return (letter) => !holds(letter);
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
