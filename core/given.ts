import { type Clock, type Random, systemClock, systemRandom } from "./clock.ts";
import { MessagingError } from "./errors.ts";

/** The clock that an option gives; the machine's where it gives none. Throws `invalid`, with the option, for what is no clock. */
export function clockOf(option: string, given: Clock | undefined): Clock {
  if (given === undefined) return systemClock();
  if (hasFunctions(given, ["now", "monotonic", "schedule", "cancel"])) return given;
  throw new MessagingError("invalid", `${option} takes a clock: an object with now, monotonic, schedule and cancel`);
}

/** The randomness that an option gives; the machine's where it gives none. Throws `invalid`, with the option, for what is none. */
export function randomOf(option: string, given: Random | undefined): Random {
  if (given === undefined) return systemRandom();
  if (hasFunctions(given, ["fraction", "bytes"])) return given;
  throw new MessagingError("invalid", `${option} takes an object with fraction and bytes, as systemRandom() makes it`);
}

/** Entries as `sendMany` takes them. Throws `invalid` for what is no list of them, before anything is sent. */
export function checkEntries(where: string, entries: unknown): void {
  if (!Array.isArray(entries)) {
    throw new MessagingError("invalid", `${where} takes a list of { body, options }. Nothing was sent`);
  }
  // Holes are passed over by most that look at a list.
  for (let index = 0; index < entries.length; index++) {
    const entry: unknown = entries[index];
    if (typeof entry === "object" && entry !== null) continue;
    const text = `${where} takes a list of { body, options }; entry ${index} is none. Nothing was sent`;
    throw new MessagingError("invalid", text);
  }
}

function hasFunctions(given: unknown, names: readonly string[]): boolean {
  const all = given as Readonly<Record<string, unknown>> | null;
  return typeof all === "object" && all !== null && names.every((name) => typeof all[name] === "function");
}
