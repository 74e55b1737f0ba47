import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import { isThenable } from "../foreign.ts";

type Result = StandardSchemaV1.Result<unknown>;

const MOST_ISSUES = 5;
const MOST_PARTS = 12;
const LONGEST_PART = 60;
const MOST_INDEX = 999_999;
/** Deeper schemas name nothing that a person could find by a path. */
const DEEPEST_SCHEMA = 24;
/** What a property of code is called. Keys that are data (addresses, ids, sentences) are mostly called otherwise. */
const PLAIN_NAME = /^[A-Za-z_$][A-Za-z0-9_$-]{0,39}$/;

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
 * Where in the body a schema found something wrong, for errors that people and logs see. Only the paths: what the schema
 * says may quote the value. A path may hold data too, as keys of a record do. A key is shown where the schema names it, by
 * its own JSON Schema, or, where it gives none, if it is called as a property of code is; else `[key]` stands for it.
 */
export function issuePaths(schema: StandardSchemaV1, issues: readonly StandardSchemaV1.Issue[]): string {
  const names = namesOf(schema);
  const paths = issues.slice(0, MOST_ISSUES).map((issue) => issuePath(issue, names));
  const more = issues.length - paths.length;
  return `${paths.join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}

function issuePath(issue: StandardSchemaV1.Issue, names: ReadonlySet<string> | undefined): string {
  try {
    const parts = [...(issue.path ?? [])];
    const shown = parts
      .slice(0, MOST_PARTS)
      .map((part) => shownPart(typeof part === "object" ? part.key : part, names));
    const path = parts.length > MOST_PARTS ? [...shown, "…"] : shown;
    // Without quotes: what stands in quotes is left out where errors are grouped.
    return path.length === 0 ? "its root" : path.join(".");
  } catch {
    return "an unknown place";
  }
}

function shownPart(part: unknown, names: ReadonlySet<string> | undefined): string {
  if (typeof part === "number" && Number.isInteger(part) && part >= 0 && part <= MOST_INDEX) return String(part);
  if (typeof part !== "string" || part.length > LONGEST_PART) return "[key]";
  const isNamed = names === undefined ? PLAIN_NAME.test(part) : names.has(part);
  return isNamed ? part.replace(/[^\x21-\x7e]/g, "?") : "[key]";
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
