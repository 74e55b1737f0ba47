import { types } from "node:util";
import secureJson from "secure-json-parse";
import { shownPath } from "./body-schema.ts";
import type { Codec } from "./codec.ts";
import { MessagingError } from "./errors.ts";
import { inexactNumbers } from "./exact-numbers.ts";
import { thrownClass, unawaited } from "./foreign.ts";

/** Whether JSON gives a body back as it is: `alike` where only properties that are undefined are left out. */
export type Likeness = "same" | "alike" | "other";

/**
 * Tells, at a fraction of what writing costs, whether a body is made of nothing but plain objects, arrays, texts, finite
 * numbers, booleans and null, to so many levels. All else is `other`. Never throws.
 */
export function likeness(body: unknown, maxDepth: number): Likeness {
  try {
    const found = unlikeness(body, maxDepth);
    return found === 0 ? "same" : found === UNDEFINED ? "alike" : "other";
  } catch {
    // A getter or a proxy that throws. What writes the body says so.
    return "other";
  }
}

const UNDEFINED = 1;
const OTHER = 2;

/** Bits, not objects: this runs for every message. */
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

/** An object of no class; of another realm too, whose `Object.prototype` is another. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null;
}

type Path = (string | number)[];

/**
 * Makes of a body what JSON carries of it, by the rules of `JSON.stringify`: `toJSON` is called, instances of classes are
 * their own properties, properties that are undefined are left out. Throws `invalid`, with the place, where those rules
 * would put something else in the place of a value without a word.
 */
export function carriedJson(body: unknown, maxDepth: number): unknown {
  const walk: Walk = { maxDepth, path: [], above: [] };
  const made = carried(body, "", walk);
  if (made === undefined) throw lost(walk, NOTHING);
  return made;
}

const NOTHING = "a value of type undefined";

interface Walk {
  readonly maxDepth: number;
  readonly path: Path;
  /** The objects that the value stands in. */
  readonly above: object[];
}

/** Undefined for what is undefined, or says that it is to be left out. */
function carried(original: unknown, name: string, walk: Walk): unknown {
  // Its toJSON would make four times as much text of it, which no schema takes for bytes.
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

/** Whether there may be something in it that is no property of its own: as in a Map, an Error, private fields. */
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

/** What `JSON.rawJSON` made, where the engine has it. */
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
    // Without a prototype, or behind a proxy that is revoked.
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
