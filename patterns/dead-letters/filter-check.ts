import { MessagingError } from "../../core/errors.ts";
import {
  type Condition,
  type Filter,
  NUMBER_OPERATORS,
  TEXT_FIELDS,
  TEXT_OPERATORS,
  type TextField,
  TIME_OPERATORS,
} from "./filter.ts";
import { parseFilter } from "./filter-text.ts";

/** A filter from what a caller gave: conditions, or their text. Throws `invalid`. */
export function filterOf(where: string, given: Filter | string): Filter {
  if (typeof given === "string") return parseFilter(given);
  if (!Array.isArray(given)) {
    throw new MessagingError("invalid", `${where} takes a filter: a text, or a list of conditions`);
  }
  return (given as readonly unknown[]).map((condition, index) =>
    checkCondition(`${where}: condition ${index}`, condition),
  );
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
  if (field === "header" && (typeof name !== "string" || name === "")) refuse("on a header names it");
  switch (field) {
    case "attempts":
    case "replays":
      oneOf(NUMBER_OPERATORS);
      if (!Number.isSafeInteger(value) || (value as number) < 0) refuse("takes a whole number from 0 up");
      break;
    case "age":
      oneOf(TIME_OPERATORS);
      if (!Number.isSafeInteger(value) || (value as number) < 0) refuse("takes whole milliseconds from 0 up");
      break;
    case "time":
      oneOf(TIME_OPERATORS);
      if (typeof value !== "string" || Number.isNaN(Date.parse(value))) refuse("takes an ISO 8601 time");
      break;
    default:
      if (field !== "header" && !TEXT_FIELDS.includes(field as TextField)) {
        refuse(
          `has no field ${String(field)}: there are ${[...TEXT_FIELDS, "header", "attempts", "replays", "time", "age"].join(", ")}`,
        );
      }
      oneOf([...TEXT_OPERATORS, "in"]);
      if (is === "in") {
        const texts = Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "string");
        if (!texts) refuse("takes a list of texts");
      } else if (typeof value !== "string") refuse("takes a text");
  }
  return condition as Condition;
}
