import { type Clock, type Random, systemClock, systemRandom } from "./clock.ts";
import { MessagingError } from "./errors.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/;
const LONGEST_NAME = 100;
/** Endings that anybroker gives to what it derives from a destination. */
const RESERVED_ENDINGS = [".dlq", ".quarantine"];

/**
 * Refuses a name that not every broker could carry, or that could be taken for another: words of letters, digits, `-` and
 * `_` between single dots, beginning with a letter or digit, 100 characters at most, not ending in what the library
 * derives from names itself. Two dots in a row stand between a topic and its subscription, and nowhere else.
 */
export function checkName(what: string, name: unknown): asserts name is string {
  if (typeof name !== "string" || name.length > LONGEST_NAME || !NAME.test(name)) {
    const shown = typeof name === "string" ? `"${name.slice(0, LONGEST_NAME)}"` : String(name);
    throw new MessagingError(
      "invalid",
      `${shown} is no name for a ${what}: use words of letters, digits, "-" and "_" between single dots, beginning with a letter or digit, ${LONGEST_NAME} characters at most`,
    );
  }
  for (const ending of RESERVED_ENDINGS) {
    // A subscription's name stands behind a dot.
    if (name.endsWith(ending) || (what === "subscription" && `.${name}` === ending)) {
      throw new MessagingError(
        "invalid",
        `"${name}" is no name for a ${what}: "${ending}" at the end is given by anybroker itself; choose another name`,
      );
    }
  }
}

/** Refuses what is no object where options are asked for: nothing in it would be seen. */
export function checkObject(where: string, options: unknown): void {
  if (typeof options === "object" && options !== null) return;
  throw new MessagingError("invalid", `${where} takes its options as an object, or none`);
}

/** Refuses options that the library does not know, by name, so that a slip of the pen is no silent default. */
export function checkOptions(where: string, options: object, known: readonly string[]): void {
  checkObject(where, options);
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new MessagingError("invalid", `${where} has no option "${name}"; it takes ${known.join(", ")}`);
  }
}

/** Refuses a number that is not an integer within bounds. */
export function checkInteger(where: string, value: unknown, least: number, most = Number.MAX_SAFE_INTEGER): void {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} up` : `from ${least} to ${most}`;
  const shown = typeof value === "object" && value !== null ? "an object" : String(value);
  throw new MessagingError("invalid", `${where} takes an integer ${range}, not ${shown}`);
}

/** The text that an option was given, if it was given one. Refuses what is no text, or empty. */
export function optionalText(where: string, name: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value !== "") return value;
  throw new MessagingError("invalid", `${where} takes a text that is not empty as ${name}`);
}

/** The longest delay or time to live, a hundred years: added to the time of day it is still a whole number. */
export const LONGEST_MS = 100 * 365 * 24 * 60 * 60 * 1000;

const FILTER_WORD = /^(\*|#|[A-Za-z0-9_-]+)$/;
const LONGEST_ROUTING_KEY = 100;

/** Refuses a routing key that is not words of letters, digits, `-` and `_` between dots, 100 characters at most. */
export function checkRoutingKey(where: string, routingKey: string): void {
  const fits =
    typeof routingKey === "string" &&
    routingKey.length <= LONGEST_ROUTING_KEY &&
    routingKey.split(".").every((word) => FILTER_WORD.test(word) && word !== "*" && word !== "#");
  if (fits) return;
  throw new MessagingError(
    "invalid",
    `${where}: a routing key is words of letters, digits, "-" and "_" between dots, ${LONGEST_ROUTING_KEY} characters at most`,
  );
}

/** Refuses a filter that is not words, `*` (one word) and `#` (any number of words) between dots. */
export function checkFilter(where: string, filter: string): void {
  const fits =
    typeof filter === "string" &&
    filter.length <= LONGEST_ROUTING_KEY &&
    filter.split(".").every((word) => FILTER_WORD.test(word));
  if (fits) return;
  throw new MessagingError(
    "invalid",
    `${where}: a filter is words, "*" (one word) and "#" (any number of words) between dots, as in "geo.us.*.#"`,
  );
}

/** The clock that an option gives; the machine's where it gives none. Throws `invalid`, with the option, for what is no clock. */
export function clockOf(option: string, given: Clock | undefined): Clock {
  if (given === undefined) return systemClock();
  const needed = ["now", "monotonic", "schedule", "cancel"];
  if (hasFunctions(given, needed) && (given.nextTurn === undefined || hasFunctions(given, ["nextTurn"]))) return given;
  throw new MessagingError("invalid", `${option} takes a clock: an object with now, monotonic, schedule and cancel`);
}

/** The randomness that an option gives; the machine's where it gives none. Throws `invalid`, with the option, for what is none. */
export function randomOf(option: string, given: Random | undefined): Random {
  if (given === undefined) return systemRandom();
  if (hasFunctions(given, ["fraction", "bytes"])) return given;
  throw new MessagingError("invalid", `${option} takes an object with fraction and bytes, as systemRandom() makes it`);
}

/** Entries as `sendMany` takes them. Throws `invalid` for what is no list of them, before anything is sent. */
export function checkEntries(where: string, entries: unknown): void {
  if (!Array.isArray(entries)) {
    throw new MessagingError("invalid", `${where} takes a list of { body, options }. Nothing was sent`);
  }
  // Holes are passed over by most that look at a list.
  for (let index = 0; index < entries.length; index++) {
    const entry: unknown = entries[index];
    if (typeof entry === "object" && entry !== null) continue;
    const text = `${where} takes a list of { body, options }; entry ${index} is none. Nothing was sent`;
    throw new MessagingError("invalid", text);
  }
}

function hasFunctions(given: unknown, names: readonly string[]): boolean {
  const all = given as Readonly<Record<string, unknown>> | null;
  return typeof all === "object" && all !== null && names.every((name) => typeof all[name] === "function");
}
