import { isShownKey } from "../shown-path.ts";

const MOST_VALUES = 10_000;
const MOST_TEXT = 1_000_000;
const DEEPEST = 64;
/** Shorter words stand in many texts by chance. */
const SHORTEST_PART = 4;
const BETWEEN_WORDS = /[^\p{L}\p{N}]+/u;

/**
 * Makes what tells whether a text may quote a body: whether one of its words is a value of the body, or a part of one, or a
 * key that is no name. It errs on the side of quoting; a body that is too large, or of which not all can be seen, is quoted by any text.
 */
export function quotesOf(body: unknown, names: ReadonlySet<string> | undefined): (text: string) => boolean {
  // Most refusals are of few issues, and many are of none with a message.
  let values: string[] | undefined | "not read" = "not read";
  let whole: ReadonlySet<string>;
  let joined: string;
  return (text) => {
    if (values === "not read") {
      values = valuesOf(body, names);
      whole = new Set(values?.flatMap(wordsOf));
      joined = values?.join("\n") ?? "";
    }
    if (values === undefined) return true;
    return wordsOf(text).some((word) => (word.length < SHORTEST_PART ? whole.has(word) : joined.includes(word)));
  };
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().split(BETWEEN_WORDS).filter(Boolean);
}

/** The texts and numbers of a body in lower case; undefined where there may be others. */
function valuesOf(body: unknown, names: ReadonlySet<string> | undefined): string[] | undefined {
  const found: string[] = [];
  let left = MOST_TEXT;
  const keep = (value: string): boolean => {
    left -= value.length;
    found.push(value.toLowerCase());
    return left >= 0 && found.length <= MOST_VALUES;
  };
  const collect = (value: unknown, depth: number): boolean => {
    if (typeof value === "string") return keep(value);
    if (typeof value === "number" || typeof value === "bigint") return keep(String(value));
    if (typeof value === "function" || typeof value === "symbol") return false;
    if (typeof value !== "object" || value === null) return true;
    if (depth > DEEPEST) return false;
    if (Array.isArray(value)) return value.every((each) => collect(each, depth + 1));
    if (!isSeenThrough(value)) return false;
    return Object.entries(value).every(
      ([key, each]) => (isShownKey(key, names) || keep(key)) && collect(each, depth + 1),
    );
  };
  try {
    return collect(body, 0) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Whether its properties are all that there is to an object. */
function isSeenThrough(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
