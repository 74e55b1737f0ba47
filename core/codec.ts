import { types } from "node:util";
import secureJson from "secure-json-parse";
import { shownPath } from "./body-schema.ts";
import { MessagingError } from "./errors.ts";
import { thrownClass, unawaited } from "./foreign.ts";

/**
 * Turns bodies into bytes and back. Both methods are synchronous.
 *
 * - `decode` gets bytes of any sender. It must be safe on hostile bytes, and throw on those that it cannot read; the message
 *   is then dead-lettered with the reason `invalid`.
 * - Their errors must not quote the body. Errors and dead letters name the class of what they throw, and the message only of
 *   a `MessagingError`.
 */
export interface Codec {
  /** The content type of every message. */
  readonly contentType: string;
  /** The engine copies the bytes: the codec may reuse its buffer. */
  encode(body: unknown): Uint8Array;
  /** The bytes are a copy for this call: the codec may change and keep them. */
  decode(bytes: Uint8Array): unknown;
  /**
   * Returns whether `decode(encode(body))` equals the body, without encoding it. Optional. Otherwise, if the destination
   * has a schema, the engine decodes the bytes and validates the result before it sends them.
   */
  keeps?(body: unknown): boolean;
}

/** The codec for bodies that are bytes. Each handler gets its own copy. */
export const bytesCodec: Codec = {
  contentType: "application/octet-stream",
  encode(body) {
    if (body instanceof Uint8Array) return body;
    throw new MessagingError("invalid", "the body must be a Uint8Array, because its destination has the bytes codec");
  },
  decode: (bytes) => bytes,
  keeps: (body) => body instanceof Uint8Array && Object.getPrototypeOf(body) === Uint8Array.prototype,
};

/** Texts, which are passed over, and numbers of a JSON text. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
const PARTS = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** Numbers with so many digits come back as they were. */
const SAFE_DIGITS = 15;
/** The most that `toPrecision` takes. */
const MOST_DIGITS = 100;

/**
 * The numbers of a JSON text, as it writes them, that JavaScript's own numbers do not keep: integers beyond 2^53, decimals
 * with more digits than a double has, and what is too large or too small. Other ways to write a double are the same number.
 */
export function inexactNumbers(text: string): string[] {
  return numbersIn(text).filter(isInexact);
}

/** Of the numbers that JavaScript does not keep, the first that a text made from another holds rounded. */
export function roundedNumber(before: string, after: string): string | undefined {
  const inexact = inexactNumbers(before);
  if (inexact.length === 0) return undefined;
  const written = numbersIn(after);
  const texts = new Set(written);
  const values = new Set(written.map(Number));
  return inexact.find((number) => !texts.has(number) && values.has(Number(number)));
}

function numbersIn(text: string): string[] {
  return (text.match(TOKENS) ?? []).filter((token) => !token.startsWith('"'));
}

function isInexact(text: string): boolean {
  if (text.length <= SAFE_DIGITS && !/[eE]/.test(text)) return false;
  const value = Number(text);
  const given = decimalOf(text);
  if (!Number.isFinite(value) || given === undefined) return true;
  if (isSame(given, decimalOf(String(value)))) return false;
  // Programs write a double with 17 digits, or with all that it has. An integer is meant as it is written.
  const isInteger = !/[.eE]/.test(text);
  return isInteger || given.digits.length > MOST_DIGITS || !isSame(given, decimalOf(precise(value, given)));
}

function precise(value: number, { digits }: Decimal): string {
  return value.toPrecision(Math.max(digits.length, 1));
}

interface Decimal {
  /** Without zeros at either end. */
  readonly digits: string;
  /** The place of the first digit. */
  readonly place: number;
}

function decimalOf(text: string): Decimal | undefined {
  const parts = PARTS.exec(text);
  if (parts === null) return undefined;
  const [, whole = "", fraction = "", exponent = "0"] = parts;
  const all = `${whole}${fraction}`;
  const first = all.search(/[1-9]/);
  if (first === -1) return { digits: "", place: 0 };
  return { digits: all.slice(first).replace(/0+$/, ""), place: whole.length - first + Number(exponent) };
}

function isSame(one: Decimal, other: Decimal | undefined): boolean {
  return one.digits === other?.digits && one.place === other.place;
}

/** Whether JSON keeps a body unchanged; `alike`: it leaves out undefined properties only. */
type Likeness = "same" | "alike" | "other";

/**
 * Checks whether a body has only plain objects, arrays, texts, finite numbers, booleans and null, up to `maxDepth`. Anything
 * else is `other`. It is much faster than writing the JSON, and never throws.
 */
function likeness(body: unknown, maxDepth: number): Likeness {
  try {
    const found = unlikeness(body, maxDepth);
    return found === 0 ? "same" : found === UNDEFINED ? "alike" : "other";
  } catch {
    // A getter or proxy threw. Encoding will report it.
    return "other";
  }
}

const UNDEFINED = 1;
const OTHER = 2;

/** Returns bits instead of objects, because it runs for every message. */
function unlikeness(value: unknown, levels: number): number {
  switch (typeof value) {
    case "string":
    case "boolean":
      return 0;
    case "number":
      return Number.isFinite(value) ? 0 : OTHER;
    case "object":
      break;
    default:
      return OTHER;
  }
  if (value === null) return 0;
  if (levels === 0 || typeof (value as { readonly toJSON?: unknown }).toJSON === "function") return OTHER;
  let found = 0;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length && found < OTHER; index++) found |= unlikeness(value[index], levels - 1);
    // It may have properties beside its items, which JSON drops.
    return found < OTHER && Object.keys(value).length !== value.length ? OTHER : found;
  }
  if (!isPlain(value) || (Object.getPrototypeOf(value) === null && isRawJson(value))) return OTHER;
  for (const name of Object.keys(value)) {
    const each = (value as Readonly<Record<string, unknown>>)[name];
    found |= each === undefined ? UNDEFINED : unlikeness(each, levels - 1);
    if (found >= OTHER) return found;
  }
  return found;
}

/** Whether it is an object without a class, also from another realm with its own `Object.prototype`. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null;
}

type Path = (string | number)[];

/**
 * Makes the value that JSON carries of a body, by the rules of `JSON.stringify`: `toJSON` is called, instances become their
 * own properties, undefined properties are left out. Throws `invalid`, with the place, where those rules would silently
 * change a value.
 */
function carriedJson(body: unknown, maxDepth: number): unknown {
  const walk: Walk = { maxDepth, path: [], above: [] };
  const made = carried(body, "", walk);
  if (made === undefined) throw lost(walk, NOTHING);
  return made;
}

const NOTHING = "a value of type undefined";

interface Walk {
  readonly maxDepth: number;
  readonly path: Path;
  /** The objects around the current value. */
  readonly above: object[];
}

/** Undefined if the value is undefined, or its `toJSON` returns undefined. */
function carried(original: unknown, name: string, walk: Walk): unknown {
  // Its toJSON would make four times as much text, which no schema accepts as bytes.
  if (ArrayBuffer.isView(original)) throw lost(walk, `bytes (${kindOf(original)}); send them as a base64 text`);
  const value = asToldByItself(original, name, walk);
  switch (typeof value) {
    case "object":
      return carriedObject(value, original, name, walk);
    case "string":
    case "boolean":
    case "undefined":
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      throw lost(walk, "a number that is not finite");
    case "bigint":
      throw lost(walk, "a BigInt");
    default:
      throw lost(walk, `a value of type ${typeof value}`);
  }
}

function carriedObject(value: object | null, original: unknown, name: string, walk: Walk): unknown {
  if (value === null) {
    if (types.isDate(original)) throw lost(walk, "a Date that is no date");
    return null;
  }
  if (types.isBoxedPrimitive(value)) {
    const boxed: unknown = value.valueOf();
    const places = typeof boxed === "string" ? boxed.length : 0;
    if (Object.keys(value).length > places) throw lost(walk, `properties of an instance of ${kindOf(value)}`);
    return carried(boxed, name, walk);
  }
  if (isRawJson(value)) {
    if (inexactNumbers(JSON.stringify(value)).length === 0) return value;
    throw lost(walk, "raw JSON of a number that JSON.parse rounds; send it as a text");
  }
  if (walk.above.includes(value)) throw lost(walk, "a cycle");
  if (walk.above.length === walk.maxDepth) {
    throw new MessagingError("invalid", `the JSON is nested deeper than ${walk.maxDepth}`);
  }
  walk.above.push(value);
  const made = Array.isArray(value) ? carriedItems(value, walk) : carriedProperties(value, walk);
  walk.above.pop();
  return made;
}

function carriedItems(items: readonly unknown[], walk: Walk): unknown[] {
  const made: unknown[] = [];
  for (let index = 0; index < items.length; index++) {
    walk.path.push(index);
    const item = carried(items[index], String(index), walk);
    if (item === undefined) throw lost(walk, NOTHING);
    made.push(item);
    walk.path.pop();
  }
  if (Object.keys(items).length > items.length) throw lost(walk, "properties of an array beside its items");
  return made;
}

function carriedProperties(value: object, walk: Walk): Record<string, unknown> {
  const names = Object.keys(value);
  if (hasHiddenContent(value, names)) throw lost(walk, `what an instance of ${kindOf(value)} holds`);
  const made: Record<string, unknown> = Object.create(null);
  for (const name of names) {
    walk.path.push(name);
    const each = carried(property(value, name, walk), name, walk);
    if (each !== undefined) made[name] = each;
    walk.path.pop();
  }
  return made;
}

function property(value: object, name: string, walk: Walk): unknown {
  try {
    return (value as Readonly<Record<string, unknown>>)[name];
  } catch (cause) {
    throw lost(walk, `a property whose getter throws ${thrownClass(cause)}`, cause);
  }
}

function asToldByItself(value: unknown, name: string, walk: Walk): unknown {
  const canTell =
    (typeof value === "object" && value !== null) || typeof value === "function" || typeof value === "bigint";
  if (!canTell) return value;
  try {
    const { toJSON } = value as { readonly toJSON?: unknown };
    return typeof toJSON === "function" ? unawaited<unknown>(toJSON.call(value, name)) : value;
  } catch (cause) {
    throw lost(walk, `a value whose toJSON throws ${thrownClass(cause)}`, cause);
  }
}

/** Whether it may have content besides its own properties: a Map, an Error, private fields. */
function hasHiddenContent(value: object, names: readonly string[]): boolean {
  if (types.isMap(value) || types.isSet(value) || types.isNativeError(value)) return true;
  if (isPlain(value)) return false;
  return names.length === 0 || isBuiltIn(value);
}

/** Whether it is an instance of a class of JavaScript's own, such as a RegExp or a Promise, or of one made from it. */
function isBuiltIn(value: object): boolean {
  let prototype = Object.getPrototypeOf(value) as object | null;
  while (prototype !== null) {
    const above = Object.getPrototypeOf(prototype) as object | null;
    const made: unknown = Object.getOwnPropertyDescriptor(prototype, "constructor")?.value;
    if (above !== null && typeof made === "function" && NATIVE.test(Function.prototype.toString.call(made)))
      return true;
    prototype = above;
  }
  return false;
}

const NATIVE = /\{\s*\[native code\]\s*\}$/;

/** Whether `JSON.rawJSON` made it, where the JavaScript engine has that. */
function isRawJson(value: object): boolean {
  const { isRawJSON } = JSON as { readonly isRawJSON?: (value: unknown) => boolean };
  return isRawJSON?.(value) === true;
}

const CLASS_NAME = /^[A-Za-z_$][A-Za-z0-9_$]{0,39}$/;

/** The class of an object, for people. */
function kindOf(value: object): string {
  try {
    const name: unknown = value.constructor.name;
    if (typeof name === "string" && CLASS_NAME.test(name)) return name;
  } catch {
    // It has no prototype, or is a revoked proxy.
  }
  return "a class";
}

function lost({ path }: Walk, what: string, cause?: unknown): MessagingError {
  const message = `JSON cannot carry ${what}`;
  const issue = { path: [...path], code: "not-carried", message };
  return new MessagingError("invalid", message, {
    issues: [{ ...issue, path: shownPath(path) }],
    rawIssues: [issue],
    cause,
  });
}

/** The options of {@link jsonCodec}. */
export interface JsonCodecOptions {
  /** The deepest nesting of arrays and objects, written or read. Default 64. */
  readonly maxDepth?: number;
  /**
   * About the most values, written or read: arrays, objects and their members. Default 250,000. A text of some megabytes
   * can have enough of them to use up the memory.
   */
  readonly maxValues?: number;
}

const DEFAULT_DEPTH = 64;
const DEFAULT_VALUES = 250_000;

/**
 * The codec for JSON in UTF-8, hardened in both directions. It refuses the keys `__proto__` and `constructor.prototype`,
 * nesting deeper than `maxDepth`, and more than `maxValues` values, before it builds anything from the text.
 *
 * - At sending it refuses, with the place, values that JSON would lose: NaN and infinities, a BigInt, undefined in an
 *   array, functions, symbols, bytes, an invalid Date, a cycle, and Map, Set, Error and other instances without own
 *   properties.
 * - It converts values for which JSON has a form: a Date and others with `toJSON`, instances to their own properties, -0
 *   to 0. It leaves out undefined properties.
 */
export function jsonCodec(options: JsonCodecOptions = {}): Codec {
  const { maxDepth = DEFAULT_DEPTH, maxValues = DEFAULT_VALUES } = options;
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  return {
    contentType: "application/json",
    encode(body) {
      // `JSON.stringify` is by far the fastest, and right for a body that is JSON already.
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
    // The message of JSON.parse quotes the text, which is data.
    const forbidden = error instanceof SyntaxError && error.message.includes("forbidden prototype");
    throw new MessagingError(
      "invalid",
      forbidden ? "the JSON holds a forbidden prototype key" : "the bytes are not valid JSON",
    );
  }
}

/** A forbidden key is in the text as it is or with escapes. Most texts have neither and need no search. */
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

/** Throws for too many levels or values: counts brackets and commas outside strings, also in invalid text. */
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

/** The index of the quote that ends a string, or of the end of the bytes. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let at = bytes.indexOf(QUOTE, start + 1); at !== -1; at = bytes.indexOf(QUOTE, at + 1)) {
    let escapes = 0;
    while (bytes[at - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return at;
  }
  return bytes.length;
}

/** Each value and its separator take two bytes at least, so few texts need the search. */
function mayHoldMoreThan(bytes: Uint8Array, maxValues: number): boolean {
  return bytes.length > 2 * maxValues;
}

/** Whether there are more than `most` opening brackets, also in strings. Few texts have them and need the search. */
function opensMoreThan(bytes: Uint8Array, most: number): boolean {
  let opened = 0;
  for (const bracket of [OPEN_OBJECT, OPEN_ARRAY]) {
    for (let at = bytes.indexOf(bracket); at !== -1; at = bytes.indexOf(bracket, at + 1)) {
      if (++opened > most) return true;
    }
  }
  return false;
}
