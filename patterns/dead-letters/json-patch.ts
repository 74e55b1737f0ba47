import { isDeepStrictEqual } from "node:util";
import { MessagingError } from "../../core/errors.ts";

/** One operation of a JSON Patch (RFC 6902); paths are JSON Pointers (RFC 6901), such as `/lines/0/price`. */
export type JsonPatchOperation =
  | { readonly op: "add" | "replace" | "test"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string }
  | { readonly op: "move" | "copy"; readonly path: string; readonly from: string };

/** A JSON Patch (RFC 6902): operations that are applied in order, all or none. */
export type JsonPatch = readonly JsonPatchOperation[];

/** Checks a patch. Throws `invalid` and names the wrong operation. */
export function jsonPatchOf(where: string, given: unknown): JsonPatch {
  if (!Array.isArray(given) || given.length === 0) {
    throw new MessagingError("invalid", `${where} takes a JSON patch: a list of at least one operation (RFC 6902)`);
  }
  for (const [index, operation] of (given as readonly unknown[]).entries()) {
    const problem = problemOf(operation);
    if (problem !== undefined) throw new MessagingError("invalid", `${where}: operation ${index} ${problem}`);
  }
  return given as JsonPatch;
}

function problemOf(operation: unknown): string | undefined {
  const given = (operation ?? {}) as Readonly<Record<string, unknown>>;
  const { op, path, from } = given;
  switch (op) {
    case "add":
    case "replace":
    case "test":
      if (!("value" in given) || given.value === undefined) return `(${op}) has no value`;
      break;
    case "move":
    case "copy":
      if (!isPointer(from)) return `(${op}) has no from such as /total`;
      break;
    case "remove":
      break;
    default:
      return "is none of add, remove, replace, move, copy, test";
  }
  return isPointer(path) ? undefined : `(${op}) has no path such as /total`;
}

function isPointer(given: unknown): boolean {
  return typeof given === "string" && /^(?:\/(?:[^~]|~[01])*)*$/.test(given);
}

/** Returns the patched value; the given one does not change. Throws `invalid` and names the operation and path that fail. */
export function applyJsonPatch(value: unknown, patch: JsonPatch): unknown {
  const root = { "": structuredClone(value) as unknown };
  for (const [index, operation] of patch.entries()) {
    const problem = apply(root, operation);
    if (problem === undefined) continue;
    throw new MessagingError("invalid", `operation ${index} of the patch (${operation.op}) does not fit: ${problem}`);
  }
  return root[""];
}

/** Applies an operation; returns the problem if it cannot be applied. */
function apply(root: object, operation: JsonPatchOperation): string | undefined {
  const { op, path } = operation;
  switch (op) {
    case "add":
      return add(root, path, structuredClone(operation.value));
    case "remove":
      return remove(root, path);
    case "replace": {
      const found = find(root, path);
      return found === undefined ? nothingAt(path) : set(root, path, structuredClone(operation.value));
    }
    case "test": {
      const found = find(root, path);
      if (found === undefined) return nothingAt(path);
      return isDeepStrictEqual(found.value, operation.value) ? undefined : `${path} has another value`;
    }
    default: {
      const { from } = operation;
      const found = find(root, from);
      if (found === undefined) return nothingAt(from);
      if (op === "copy") return add(root, path, structuredClone(found.value));
      if (path.startsWith(`${from}/`)) return `${from} cannot be moved into itself`;
      return path === from ? undefined : (remove(root, from) ?? add(root, path, found.value));
    }
  }
}

function nothingAt(path: string): string {
  return `there is nothing at ${path === "" ? "the root" : path}`;
}

/** The names of a path, from the holder of the root. */
function namesOf(path: string): readonly string[] {
  return path.split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function isHolder(value: unknown): value is Record<string, unknown> | unknown[] {
  return typeof value === "object" && value !== null;
}

/** The container and the last name of a path. */
function placeOf(
  root: object,
  path: string,
): { readonly holder: Record<string, unknown> | unknown[]; readonly name: string } | undefined {
  const names = namesOf(path);
  const name = names.at(-1) ?? "";
  let holder: unknown = root;
  for (const step of names.slice(0, -1)) {
    holder = isHolder(holder) ? own(holder, step)?.value : undefined;
  }
  return isHolder(holder) ? { holder, name } : undefined;
}

/** An own value. Values of a prototype are not part of the message. */
function own(holder: Record<string, unknown> | unknown[], name: string): { readonly value: unknown } | undefined {
  if (Array.isArray(holder)) {
    const index = indexOf(name, holder.length - 1);
    return index === undefined ? undefined : { value: holder[index] };
  }
  return Object.hasOwn(holder, name) ? { value: holder[name] } : undefined;
}

function indexOf(name: string, last: number): number | undefined {
  const index = /^(?:0|[1-9]\d*)$/.test(name) ? Number(name) : Number.NaN;
  return index <= last ? index : undefined;
}

function find(root: object, path: string): { readonly value: unknown } | undefined {
  const place = placeOf(root, path);
  return place === undefined ? undefined : own(place.holder, place.name);
}

/** Defines `__proto__` too, which an assignment would take as the prototype. */
function define(holder: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(holder, name, { value, writable: true, enumerable: true, configurable: true });
}

function add(root: object, path: string, value: unknown): string | undefined {
  const place = placeOf(root, path);
  if (place === undefined) return `there is nothing that could hold ${path}`;
  const { holder, name } = place;
  if (!Array.isArray(holder)) {
    define(holder, name, value);
    return undefined;
  }
  const index = name === "-" ? holder.length : indexOf(name, holder.length);
  if (index === undefined) return `${path} is no index of that list`;
  holder.splice(index, 0, value);
  return undefined;
}

function set(root: object, path: string, value: unknown): undefined {
  const { holder, name } = placeOf(root, path) as NonNullable<ReturnType<typeof placeOf>>;
  if (Array.isArray(holder)) holder[Number(name)] = value;
  else define(holder, name, value);
}

function remove(root: object, path: string): string | undefined {
  const place = placeOf(root, path);
  if (place === undefined || own(place.holder, place.name) === undefined) return nothingAt(path);
  const { holder, name } = place;
  if (path === "") return "the whole body cannot be removed";
  if (Array.isArray(holder)) holder.splice(Number(name), 1);
  else delete holder[name];
  return undefined;
}
