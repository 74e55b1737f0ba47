import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import type { BodyIssue } from "../errors.ts";
import { isThenable } from "../foreign.ts";
import { shownPath } from "../shown-path.ts";
import { quotesOf } from "./quotes.ts";

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
export interface Refused {
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
