import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import type { BodyIssue } from "./errors.ts";
import { ignoreRejection, isThenable } from "./foreign.ts";

const MOST_PARTS = 12;
const LONGEST_PART = 60;
const MOST_INDEX = 999_999;
/** A usual name of a property. Keys that are data (addresses, ids, sentences) rarely match it. */
const PLAIN_NAME = /^[A-Za-z_$][A-Za-z0-9_$-]{0,39}$/;

/**
 * Makes a path into a body safe for people and logs. A key may be data. It is shown if it is among the `names` of a
 * schema or, without names, looks like a property of code. Others become `[key]`.
 */
export function shownPath(parts: readonly unknown[], names?: ReadonlySet<string>): (string | number)[] {
  const shown = parts.slice(0, MOST_PARTS).map((part) => shownPart(part, names));
  return parts.length > MOST_PARTS ? [...shown, "…"] : shown;
}

function shownPart(part: unknown, names: ReadonlySet<string> | undefined): string | number {
  if (typeof part === "number" && Number.isInteger(part) && part >= 0 && part <= MOST_INDEX) return part;
  return typeof part === "string" && isShownKey(part, names) ? part.replace(/[^\x21-\x7e]/g, "?") : "[key]";
}

/** Whether a key is shown as it is. */
function isShownKey(key: string, names: ReadonlySet<string> | undefined): boolean {
  if (key.length > LONGEST_PART) return false;
  return names === undefined ? PLAIN_NAME.test(key) : names.has(key);
}

const MOST_VALUES = 10_000;
const MOST_TEXT = 1_000_000;
const DEEPEST = 64;
/** Shorter words occur in many texts by chance. */
const SHORTEST_PART = 4;
const BETWEEN_WORDS = /[^\p{L}\p{N}]+/u;

/**
 * Makes a function that says whether a text may quote a body: whether one of its words is in a value of the body, or in a
 * key that is no name. In doubt, and for a body that is too large or cannot be read completely, it says yes.
 */
function quotesOf(body: unknown, names: ReadonlySet<string> | undefined): (text: string) => boolean {
  // Read at the first call: many issues have no message.
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

/** The texts and numbers of a body in lower case; undefined if there may be others. */
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

/** Whether an object has no content besides its properties. */
function isSeenThrough(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

type Result = StandardSchemaV1.Result<unknown>;

const MOST_PLACES = 5;
const MOST_ISSUES = 50;
const LONGEST_MESSAGE = 500;
/** A code is one word, not a sentence. */
const CODE = /^[A-Za-z][A-Za-z0-9_.-]{0,59}$/;
/** Longer paths would not help a reader. */
const DEEPEST_SCHEMA = 24;

/** Validates a body. Returns a promise only if the schema does. Throws or rejects as the schema does, and for a wrong result. */
export function validateBody(schema: StandardSchemaV1, body: unknown): Result | Promise<Result> {
  const result: unknown = schema["~standard"].validate(body);
  return isThenable(result) ? Promise.resolve(result).then(checkedResult) : checkedResult(result);
}

function checkedResult(result: unknown): Result {
  const isResult = typeof result === "object" && result !== null && ("value" in result || "issues" in result);
  const { issues, value } = (isResult ? result : {}) as { readonly issues?: unknown; readonly value?: unknown };
  if (!isResult || (issues !== undefined && !Array.isArray(issues)) || isThenable(value)) {
    ignoreRejection(issues);
    ignoreRejection(value);
    throw new TypeError(
      "the schema's validate() must return { value }, with no promise as value, or { issues: [...] }",
    );
  }
  return result as Result;
}

/** Why a body was refused. Only `rawIssues` may quote the body. */
interface Refused {
  /** The first few places, for an error message. */
  readonly places: string;
  readonly details: { readonly issues: readonly BodyIssue[]; readonly rawIssues: readonly StandardSchemaV1.Issue[] };
}

/** Describes why a body was refused. The schema knows which keys are names. */
export function refused(
  schema: StandardSchemaV1 | undefined,
  rawIssues: readonly StandardSchemaV1.Issue[],
  body: unknown,
): Refused {
  for (const issue of rawIssues) ignorePromisesIn(issue);
  const names = schema === undefined ? undefined : namesOf(schema);
  const quotes = quotesOf(body, names);
  const issues = rawIssues.slice(0, MOST_ISSUES).map((issue) => bodyIssue(issue, names, quotes));
  const places = issues.slice(0, MOST_PLACES).map(({ path }) => placeOf(path));
  const more = rawIssues.length - places.length;
  return {
    places: `${places.join(", ")}${more > 0 ? `, and ${more} more` : ""}`,
    details: { issues, rawIssues },
  };
}

/** An asynchronous message of an issue, which nothing awaits, must not end the process. */
function ignorePromisesIn(issue: StandardSchemaV1.Issue): void {
  try {
    const { path, message, code, type } = issue as {
      readonly path?: unknown;
      readonly message?: unknown;
      readonly code?: unknown;
      readonly type?: unknown;
    };
    for (const each of [issue, path, message, code, type]) ignoreRejection(each);
    if (!Array.isArray(path)) return;
    for (const part of path as readonly unknown[]) {
      ignoreRejection(part);
      ignoreRejection((part as { readonly key?: unknown } | null)?.key);
    }
  } catch {
    // What a getter throws is passed over where the issue is described.
  }
}

function placeOf(path: BodyIssue["path"]): string {
  // Without quotes, because the grouping of errors leaves out quoted texts.
  return path.length === 0 ? "its root" : path.join(".");
}

function bodyIssue(
  issue: StandardSchemaV1.Issue,
  names: ReadonlySet<string> | undefined,
  quotes: (text: string) => boolean,
): BodyIssue {
  return {
    path: pathOf(issue, names),
    code: codeOf(issue),
    message: messageOf(issue, quotes),
  };
}

function pathOf(issue: StandardSchemaV1.Issue, names: ReadonlySet<string> | undefined): BodyIssue["path"] {
  try {
    const { path } = issue;
    ignoreRejection(path);
    const parts = [...(path ?? [])];
    return shownPath(
      parts.map((part) => (typeof part === "object" ? part.key : part)),
      names,
    );
  } catch {
    return ["an unknown place"];
  }
}

/** zod and arktype have a `code`, valibot has a `type`. */
function codeOf(issue: StandardSchemaV1.Issue): string | undefined {
  try {
    const { code, type } = issue as { readonly code?: unknown; readonly type?: unknown };
    for (const each of [code, type]) ignoreRejection(each);
    return [code, type].find((each): each is string => typeof each === "string" && CODE.test(each));
  } catch {
    return undefined;
  }
}

function messageOf(issue: StandardSchemaV1.Issue, quotes: (text: string) => boolean): string | undefined {
  try {
    const { message } = issue;
    ignoreRejection(message);
    if (typeof message !== "string" || message.length > LONGEST_MESSAGE || quotes(message)) return undefined;
    return message;
  } catch {
    return undefined;
  }
}

/** The names of properties in a schema; undefined if it has no JSON Schema. */
function namesOf(schema: StandardSchemaV1): ReadonlySet<string> | undefined {
  try {
    const { jsonSchema } = schema["~standard"] as Partial<StandardJSONSchemaV1.Props>;
    if (typeof jsonSchema?.input !== "function") return undefined;
    const names = new Set<string>();
    collectNames(jsonSchema.input({ target: "draft-07" }), names, 0);
    return names;
  } catch {
    // Not every schema can be written as JSON Schema.
    return undefined;
  }
}

function collectNames(value: unknown, names: Set<string>, depth: number): void {
  if (typeof value !== "object" || value === null || depth > DEEPEST_SCHEMA) return;
  for (const [keyword, each] of Object.entries(value)) {
    if (keyword === "properties" && typeof each === "object" && each !== null) {
      for (const name of Object.keys(each)) names.add(name);
    }
    collectNames(each, names, depth + 1);
  }
}
