import { type Clock, checkedRandom, type Random, systemClock, systemRandom } from "./clock.ts";
import { MessagingError } from "./errors.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/;
const LONGEST_NAME = 100;
/** Endings of the names that anybroker derives from a destination. */
const RESERVED_ENDINGS = [".dlq", ".quarantine"];

/**
 * Throws `invalid` for a name that some broker cannot carry or that is ambiguous. Names are words of letters, digits, `-`
 * and `_` between single dots, begin with a letter or digit, and have 100 characters at most. The endings of derived names
 * are refused. Two dots in a row separate a topic from its subscription.
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
    // A subscription's name follows a dot.
    if (name.endsWith(ending) || (what === "subscription" && `.${name}` === ending)) {
      throw new MessagingError(
        "invalid",
        `"${name}" is no name for a ${what}: "${ending}" at the end is given by anybroker itself; choose another name`,
      );
    }
  }
}

/** Throws `invalid` for options that are no object. */
export function checkObject(where: string, options: unknown): void {
  if (typeof options === "object" && options !== null) return;
  throw new MessagingError("invalid", `${where} takes its options as an object, or none`);
}

/** Throws `invalid` for an unknown option, so that a typo does not become a silent default. */
export function checkOptions(where: string, options: object, known: readonly string[]): void {
  checkObject(where, options);
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new MessagingError("invalid", `${where} has no option "${name}"; it takes ${known.join(", ")}`);
  }
}

/** Throws `invalid` for anything but an integer within bounds. */
export function checkInteger(where: string, value: unknown, least: number, most = Number.MAX_SAFE_INTEGER): void {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} up` : `from ${least} to ${most}`;
  const shown = typeof value === "object" && value !== null ? "an object" : String(value);
  throw new MessagingError("invalid", `${where} takes an integer ${range}, not ${shown}`);
}

/** Returns a text option, or undefined if it is not given. Throws `invalid` for an empty text and for other types. */
export function optionalText(where: string, name: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value !== "") return value;
  throw new MessagingError("invalid", `${where} takes a text that is not empty as ${name}`);
}

/** The longest delay or time to live: a hundred years. Added to the current time it is still a safe integer. */
export const LONGEST_MS = 100 * 365 * 24 * 60 * 60 * 1000;

const FILTER_WORD = /^(\*|#|[A-Za-z0-9_-]+)$/;
const LONGEST_ROUTING_KEY = 100;

/** Throws `invalid` for a routing key that is not words of letters, digits, `-` and `_` between dots, or is too long. */
export function checkRoutingKey(where: string, routingKey: string): void {
  if (isWords(routingKey) && !/[*#]/.test(routingKey)) return;
  throw new MessagingError(
    "invalid",
    `${where}: a routing key is words of letters, digits, "-" and "_" between dots, ${LONGEST_ROUTING_KEY} characters at most`,
  );
}

/** Throws `invalid` for a filter that is not words, `*` (one word) and `#` (any number of words) between dots. */
export function checkFilter(where: string, filter: string): void {
  if (isWords(filter)) return;
  throw new MessagingError(
    "invalid",
    `${where}: a filter is words, "*" (one word) and "#" (any number of words) between dots, as in "geo.us.*.#"`,
  );
}

function isWords(text: unknown): boolean {
  if (typeof text !== "string" || text.length > LONGEST_ROUTING_KEY) return false;
  return text.split(".").every((word) => FILTER_WORD.test(word));
}

/** Returns the given clock, or the machine's. Throws `invalid`, with the name of the option, for anything else. */
export function clockOf(option: string, given: Clock | undefined): Clock {
  if (given === undefined) return systemClock();
  const needed = ["now", "monotonic", "schedule", "cancel"];
  if (hasFunctions(given, needed) && (given.nextTurn === undefined || hasFunctions(given, ["nextTurn"]))) return given;
  throw new MessagingError("invalid", `${option} takes a clock: an object with now, monotonic, schedule and cancel`);
}

const USUAL_RANDOM =
  "The machine's randomness is used in place of each such answer; fraction() gives a number from 0 up to 1, without 1";

/**
 * The randomness that an option gives; the machine's where it gives none, and in the place of wrong answers, the first of
 * which `wrong` gets. Throws `invalid`, with the option, for what is none.
 */
export function randomOf(
  option: string,
  given: Random | undefined,
  wrong: (error: MessagingError) => void = () => {},
): Random {
  if (given === undefined) return systemRandom();
  if (hasFunctions(given, ["fraction", "bytes"])) {
    return checkedRandom(given, (what) => wrong(new MessagingError("invalid", `${option}: ${what}. ${USUAL_RANDOM}`)));
  }
  throw new MessagingError("invalid", `${option} takes an object with fraction and bytes, as systemRandom() makes it`);
}

/** Throws `invalid` for anything but a list of entries for `sendMany`, before anything is sent. */
export function checkEntries(where: string, entries: unknown): void {
  if (!Array.isArray(entries)) {
    throw new MessagingError("invalid", `${where} takes a list of { body, options }. Nothing was sent`);
  }
  // By index, because array methods skip holes.
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
