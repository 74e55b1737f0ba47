/**
 * Handles values of user code, which may be anything: objects without a prototype, with a `toString` that throws, or
 * revoked proxies. Only {@link hasThen} throws.
 */

const NO_TEXT = "what was thrown has no text";

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** A foreign text on one line, of `most` characters at most. Control characters become question marks. */
export function oneLine(text: string, most: number): string {
  const line = text
    .slice(0, most + 1)
    .toWellFormed()
    .replaceAll(UNPRINTABLE, "?");
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

const MAX_ID = 100;
/** A reference has the name of a topic or queue, and some numbers. */
const MAX_REFERENCE = 300;

/** The id of a message for the text of an error: any sender chooses it. */
export function shownId(id: string): string {
  return oneLine(id, MAX_ID);
}

/** The reference of a dead letter for the text of an error: any sender may write that header. */
export function shownReference(reference: string | undefined): string {
  return oneLine(reference ?? "", MAX_REFERENCE);
}

/** The message of an error, or any other thrown value as text. */
export function thrownText(thrown: unknown): string {
  try {
    const text: unknown = thrown instanceof Error ? thrown.message : thrown;
    return typeof text === "string" ? text : String(text);
  } catch {
    return NO_TEXT;
  }
}

/** The name of an error's class, or the type of any other thrown value. */
export function thrownClass(thrown: unknown): string {
  try {
    if (!(thrown instanceof Error)) return typeof thrown;
    const name: unknown = thrown.name === "Error" ? thrown.constructor.name : thrown.name;
    return typeof name === "string" && name !== "" ? name : "Error";
  } catch {
    return "Error";
  }
}

/** Whether a value can be awaited; false if reading its `then` throws. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  try {
    return hasThen(value);
  } catch {
    return false;
  }
}

/** As {@link isThenable}, but throws what reading `then` throws, as an `await` would. */
export function hasThen(value: unknown): value is PromiseLike<unknown> {
  const canHaveThen = (typeof value === "object" && value !== null) || typeof value === "function";
  return canHaveThen && typeof (value as { readonly then?: unknown }).then === "function";
}

/** Handles the rejection of a promise that is not awaited: an unhandled one would end the process. Ignores other values. */
export function ignoreRejection(value: unknown): void {
  if (isThenable(value)) Promise.resolve(value).catch(() => {});
}

/** Returns a result that must not be a promise, for a check that refuses one. Handles its rejection. */
export function unawaited<Value>(value: Value): Value {
  ignoreRejection(value);
  return value;
}

/** Calls an observer, and ignores its errors and rejections: they must not disturb what it observes. */
export function observe<Seen>(observer: ((seen: Seen) => unknown) | undefined, seen: Seen): void {
  try {
    ignoreRejection(observer?.(seen));
  } catch {
    // See above.
  }
}
