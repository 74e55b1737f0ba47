import { types } from "node:util";
import { MessagingError } from "./errors.ts";
import { thrownClass, unawaited } from "./foreign.ts";
import { shownPath } from "./shown-path.ts";

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
    return found;
  }
  if (!isPlain(value)) return OTHER;
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
  if (types.isBoxedPrimitive(value)) return carried(value.valueOf(), name, walk);
  if (isRawJson(value)) return value;
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
  return names.length === 0 && !isPlain(value);
}

/** What `JSON.rawJSON` made, where the engine has it. */
function isRawJson(value: unknown): boolean {
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
