import { MessagingError } from "../../core/errors.ts";

/** Refuses a number that is not finite, or not above 0. */
export function checkPositive(where: string, value: unknown): void {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return;
  throw new MessagingError("invalid", `${where} takes a number above 0, not ${shown(value)}`);
}

/** Refuses a number that is not from `least` to `most`. */
export function checkShare(where: string, value: unknown, least: number, most: number): void {
  if (typeof value === "number" && value >= least && value <= most) return;
  throw new MessagingError("invalid", `${where} takes a number from ${least} to ${most}, not ${shown(value)}`);
}

/** Refuses what is given and is no function. */
export function checkFunction(where: string, value: unknown): void {
  if (typeof value === "function") return;
  throw new MessagingError("invalid", `${where} takes a function, not ${shown(value)}`);
}

function shown(value: unknown): string {
  return typeof value === "object" && value !== null ? "an object" : String(value);
}
