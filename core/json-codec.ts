import secureJson from "secure-json-parse";
import { carriedJson, likeness } from "./carried-json.ts";
import type { Codec } from "./codec.ts";
import { MessagingError } from "./errors.ts";

/** The options of {@link jsonCodec}. */
export interface JsonCodecOptions {
  /** The deepest nesting of arrays and objects, written or read. Default 64. */
  readonly maxDepth?: number;
  /**
   * About the most values, written or read: arrays, objects and what they hold. Default 250,000. A text of some megabytes can
   * hold so many that the process runs out of memory.
   */
  readonly maxValues?: number;
}

const DEFAULT_DEPTH = 64;
const DEFAULT_VALUES = 250_000;

/**
 * JSON in UTF-8, hardened: `__proto__` and `constructor.prototype` as keys are refused in both directions, and so is
 * nesting deeper than `maxDepth` and more than `maxValues` values, before anything is built from the text.
 *
 * A body that would arrive without something that it holds is refused when it is sent, with the place: NaN and infinities,
 * a BigInt, undefined in an array, functions and symbols, bytes, Map, Set, Error and other instances without properties of
 * their own, a Date that is no date, a cycle. What JSON has a word for becomes that: a Date and whatever has a `toJSON` what
 * it makes, an instance of a class its own properties, -0 becomes 0, and a property that is undefined is left out.
 */
export function jsonCodec(options: JsonCodecOptions = {}): Codec {
  const { maxDepth = DEFAULT_DEPTH, maxValues = DEFAULT_VALUES } = options;
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  return {
    contentType: "application/json",
    encode(body) {
      // The engine's own writer is by far the quickest, and changes nothing of a body that is JSON already.
      const carried = likeness(body, maxDepth) === "other" ? carriedJson(body, maxDepth) : body;
      const text = JSON.stringify(carried);
      if (mayHoldForbiddenKey(text)) parse(text);
      const bytes = Buffer.from(text);
      if (mayHoldMoreThan(bytes, maxValues)) refuseHeavy(bytes, maxDepth, maxValues);
      return bytes;
    },
    decode(bytes) {
      if (opensMoreThan(bytes, maxDepth) || mayHoldMoreThan(bytes, maxValues)) refuseHeavy(bytes, maxDepth, maxValues);
      return parse(textOf(bytes, decoder));
    },
    keeps: (body) => likeness(body, maxDepth) === "same",
  };
}

function textOf(bytes: Uint8Array, decoder: { decode(bytes: Uint8Array): string }): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new MessagingError("invalid", "the bytes are not valid UTF-8");
  }
}

function parse(text: string): unknown {
  try {
    return mayHoldForbiddenKey(text) ? secureJson.parse(text) : JSON.parse(text);
  } catch (error) {
    // JSON.parse quotes the text in its message, and the text is somebody's data.
    const forbidden = error instanceof SyntaxError && error.message.includes("forbidden prototype");
    throw new MessagingError(
      "invalid",
      forbidden ? "the JSON holds a forbidden prototype key" : "the bytes are not valid JSON",
    );
  }
}

/** A forbidden key stands in the text as it is, or with escapes; most texts hold neither, and are spared the search. */
function mayHoldForbiddenKey(text: string): boolean {
  return text.includes("__proto__") || text.includes("constructor") || text.includes("\\u");
}

const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Counts brackets and commas outside strings; the text need not be valid. */
function refuseHeavy(bytes: Uint8Array, maxDepth: number, maxValues: number): void {
  let depth = 0;
  let values = 0;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index];
    if (byte === QUOTE) {
      index = endOfString(bytes, index);
    } else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      values++;
      if (++depth > maxDepth) throw new MessagingError("invalid", `the JSON is nested deeper than ${maxDepth}`);
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) {
      depth--;
    } else if (byte === COMMA) {
      values++;
    }
    if (values > maxValues) throw new MessagingError("invalid", `the JSON holds more than ${maxValues} values`);
  }
}

/** Where the quotes are that end a string; the end of the bytes where none do. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let at = bytes.indexOf(QUOTE, start + 1); at !== -1; at = bytes.indexOf(QUOTE, at + 1)) {
    let escapes = 0;
    while (bytes[at - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return at;
  }
  return bytes.length;
}

/** Each value takes two bytes at least, with what parts it from the next: few texts are searched. */
function mayHoldMoreThan(bytes: Uint8Array, maxValues: number): boolean {
  return bytes.length > 2 * maxValues;
}

/** Whether there are more opening brackets than so many, inside strings or not: few texts have, and few are searched. */
function opensMoreThan(bytes: Uint8Array, most: number): boolean {
  let opened = 0;
  for (const bracket of [OPEN_OBJECT, OPEN_ARRAY]) {
    for (let at = bytes.indexOf(bracket); at !== -1; at = bytes.indexOf(bracket, at + 1)) {
      if (++opened > most) return true;
    }
  }
  return false;
}
