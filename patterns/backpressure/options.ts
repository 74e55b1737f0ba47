import { MessagingError } from "../../core/errors.ts";

/** Throws `invalid` unless the value is a finite number above 0. */
export function checkPositive(where: string, value: unknown): void {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return;
  throw new MessagingError("invalid", `${where} takes a number above 0, not ${shown(value)}`);
}

/** Throws `invalid` unless the value is a number from `least` to `most`. */
export function checkShare(where: string, value: unknown, least: number, most: number): void {
  if (typeof value === "number" && value >= least && value <= most) return;
  throw new MessagingError("invalid", `${where} takes a number from ${least} to ${most}, not ${shown(value)}`);
}

/** Throws `invalid` unless the value is a function. */
export function checkFunction(where: string, value: unknown): void {
  if (typeof value === "function") return;
  throw new MessagingError("invalid", `${where} takes a function, not ${shown(value)}`);
}

function shown(value: unknown): string {
  return typeof value === "object" && value !== null ? "an object" : String(value);
}
