import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import type { BodyIssue } from "./errors.ts";
import { isThenable } from "./foreign.ts";

const MOST_PARTS = 12;
const LONGEST_PART = 60;
const MOST_INDEX = 999_999;
/** What a property of code is called. Keys that are data (addresses, ids, sentences) are mostly called otherwise. */
const PLAIN_NAME = /^[A-Za-z_$][A-Za-z0-9_$-]{0,39}$/;

/**
 * A path into a body, for people and logs. A key of a record may be data: it is shown where it is among the `names` of a
 * schema, or, where there are none, if it is called as a property of code is; else `[key]` stands for it.
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
/** Shorter words stand in many texts by chance. */
const SHORTEST_PART = 4;
const BETWEEN_WORDS = /[^\p{L}\p{N}]+/u;

/**
 * Makes what tells whether a text may quote a body: whether one of its words is a value of the body, or a part of one, or a
 * key that is no name. It errs on the side of quoting; a body that is too large, or of which not all can be seen, is quoted by any text.
 */
function quotesOf(body: unknown, names: ReadonlySet<string> | undefined): (text: string) => boolean {
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

type Result = StandardSchemaV1.Result<unknown>;

const MOST_PLACES = 5;
const MOST_ISSUES = 50;
const LONGEST_MESSAGE = 500;
/** A word of the schema's library, and no sentence. */
const CODE = /^[A-Za-z][A-Za-z0-9_.-]{0,59}$/;
/** Deeper schemas name nothing that a person could find by a path. */
const DEEPEST_SCHEMA = 24;

/** Validates a body. Throws or rejects as the schema does, and for a result that is none. A promise only where the schema's is. */
export function validateBody(schema: StandardSchemaV1, body: unknown): Result | Promise<Result> {
  const result: unknown = schema["~standard"].validate(body);
  return isThenable(result) ? Promise.resolve(result).then(checkedResult) : checkedResult(result);
}

function checkedResult(result: unknown): Result {
  const isResult = typeof result === "object" && result !== null && ("value" in result || "issues" in result);
  const { issues } = (isResult ? result : {}) as { readonly issues?: unknown };
  if (!isResult || (issues !== undefined && !Array.isArray(issues))) {
    throw new TypeError("the schema's validate() must return { value } or { issues: [...] }");
  }
  return result as Result;
}

/**
 * What a refusal of a body says: where, as a text and as issues, and on the side what the schema itself returned. Text and
 * issues hold nothing of the body: what a schema says may quote it, and a path may hold data too, as keys of a record do.
 */
interface Refused {
  /** For a message: the first few places. */
  readonly places: string;
  readonly details: { readonly issues: readonly BodyIssue[]; readonly rawIssues: readonly StandardSchemaV1.Issue[] };
}

/** Describes why a body was refused. `schema` tells which keys are names. */
export function refused(
  schema: StandardSchemaV1 | undefined,
  rawIssues: readonly StandardSchemaV1.Issue[],
  body: unknown,
): Refused {
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

function placeOf(path: BodyIssue["path"]): string {
  // Without quotes: what stands in quotes is left out where errors are grouped.
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
    const parts = [...(issue.path ?? [])];
    return shownPath(
      parts.map((part) => (typeof part === "object" ? part.key : part)),
      names,
    );
  } catch {
    return ["an unknown place"];
  }
}

/** zod and arktype say `code`, valibot says `type`. */
function codeOf(issue: StandardSchemaV1.Issue): string | undefined {
  try {
    const { code, type } = issue as { readonly code?: unknown; readonly type?: unknown };
    return [code, type].find((each): each is string => typeof each === "string" && CODE.test(each));
  } catch {
    return undefined;
  }
}

function messageOf(issue: StandardSchemaV1.Issue, quotes: (text: string) => boolean): string | undefined {
  try {
    const { message } = issue;
    if (typeof message !== "string" || message.length > LONGEST_MESSAGE || quotes(message)) return undefined;
    return message;
  } catch {
    return undefined;
  }
}

/** The names of properties in a schema; undefined where it does not tell. */
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
