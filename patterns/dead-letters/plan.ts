import type { IncomingMessage } from "../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { DeadLetter } from "./dead-letter.ts";
import { isValid } from "./entry.ts";
import type { Look } from "./look.ts";
import { comparePlaces, type Place, placeOf } from "./page.ts";
import type { Source } from "./source.ts";
import { isTargetAddress, type Target, type TargetAddress } from "./target.ts";

/** Entries that were asked for and are not in a plan. */
export interface Refused {
  readonly why: string;
  readonly count: number;
  /** The id of one of them. */
  readonly example: string;
}

/**
 * What a run is going to do: plain JSON, to be looked at, and to be kept (`JSON.stringify`) so that the run can be taken up
 * again after a crash. It names every entry, by some 25 bytes each: what is dead-lettered later is in no plan.
 */
export interface Plan extends Look {
  /** Names the run; it stands in a header of every message that the run sends back. */
  readonly run: string;
  readonly action: "replay" | "discard";
  /** Whose dead letters: `orders`, `order.placed..billing`. */
  readonly source: string;
  /** What was asked for, as text. */
  readonly filter: string;
  /** ISO time; ages in the filter are counted up to it. */
  readonly plannedAt: string;
  /** How many entries are going to be sent back or discarded. */
  readonly count: number;
  /** Where to, and how many; for a discard where from. */
  readonly destinations: readonly { readonly destination: string; readonly count: number }[];
  /** What was asked for and is left alone, and why. */
  readonly refused: readonly Refused[];
  /** How many more were asked for than `limit` allows; they were dead-lettered last. */
  readonly beyondLimit: number;
  /** For a replay: where it sends to. */
  readonly to: TargetAddress | null;
  /** The ids of the entries, those that failed first before the others. */
  readonly entries: readonly string[];
}

/** Gathers what a run selects. */
export class Selection {
  readonly #places = new Map<string, Place>();
  readonly #refused = new Map<string, { count: number; example: string }>();

  add(letter: DeadLetter): void {
    this.#places.set(letter.id, placeOf(letter));
  }

  refuse(letter: DeadLetter, why: string): void {
    const known = this.#refused.get(why);
    if (known === undefined) this.#refused.set(why, { count: 1, example: letter.id });
    else known.count++;
  }

  get refused(): readonly Refused[] {
    return [...this.#refused].map(([why, { count, example }]) => ({ why, count, example }));
  }

  /** The ids of the first so many. */
  first(limit: number): { readonly entries: readonly string[]; readonly beyondLimit: number } {
    const all = [...this.#places.values()].sort(comparePlaces);
    const entries = all.slice(0, limit).map(({ id }) => id);
    return { entries, beyondLimit: all.length - entries.length };
  }
}

/** What keeps dead letters from being sent back. */
export interface ReplayGuards {
  readonly maxReplays: number;
  readonly edited: boolean;
  /** Whether those are sent back too that lost some of their headers. */
  readonly incomplete: boolean;
}

/**
 * Why a dead letter is not to be sent back; undefined if nothing is against it. A promise only where the schema is
 * asynchronous, or the message is stored elsewhere.
 */
export function whyNotReplayed(
  letter: DeadLetter,
  source: Source,
  target: Target,
  { maxReplays, edited, incomplete }: ReplayGuards,
): string | undefined | Promise<string | undefined> {
  if (letter.replays >= maxReplays) return `sent back ${maxReplays} times already (maxReplays)`;
  if (letter.cut !== undefined && !incomplete) {
    return "headers were cut, or were over the limits and not read; sent back, it would go without them (incomplete)";
  }
  // What an edit makes of the body is checked when it is made.
  if (edited) return undefined;
  if (letter.reference !== undefined) {
    return source.originals.use(letter, (messages) => whyNoneReplayed(messages, target)).catch(whyUnread);
  }
  return refusedBy(isValid(letter, target), target);
}

/** Of a batch each message is handled by itself, and those that are not valid come back by themselves. */
function whyNoneReplayed(
  messages: readonly IncomingMessage[],
  target: Target,
): string | undefined | Promise<string | undefined> {
  const [message, ...more] = messages;
  if (message === undefined || more.length > 0) return undefined;
  return refusedBy(isValid({ message }, target), target);
}

function refusedBy(
  valid: boolean | Promise<boolean>,
  { name }: Target,
): string | undefined | Promise<string | undefined> {
  const refused = `the codec or the schema of ${name} does not take its body: it would fail again; edit or discard it`;
  if (typeof valid === "boolean") return valid ? undefined : refused;
  return valid.then((is) => (is ? undefined : refused));
}

function whyUnread(error: unknown): string {
  const code = isMessagingError(error) ? error.code : "refused";
  if (code === "not-found") return "the message that it refers to is gone; discard it";
  return `the message that it refers to cannot be read (${code})`;
}

/** As runs are named: it travels in a header, and names a file. */
const RUN = /^[\w-]{1,100}$/;

/** A plan that was kept, read back. Throws `invalid` for what is none, or is another source's. */
export function planOf(given: unknown, source: string): Plan {
  if (!isPlan(given))
    throw new MessagingError("invalid", "resume takes the plan of a replay or a discard, as it was kept in JSON");
  if (given.source !== source) {
    throw new MessagingError(
      "invalid",
      `the plan is for the dead letters of ${given.source}, and these are those of ${source}`,
    );
  }
  return given;
}

function isPlan(given: unknown): given is Plan {
  const plan = fieldsOf(given);
  const { run, action, to, entries, destinations, refused } = plan;
  return (
    isText(run) &&
    RUN.test(run) &&
    (action === "discard" ? to === null : action === "replay" && isTargetAddress(to)) &&
    [plan.source, plan.filter, plan.plannedAt].every(isText) &&
    [plan.count, plan.beyondLimit].every(isCount) &&
    [plan.held, plan.complete].every((value) => typeof value === "boolean") &&
    isListOf(entries, isText) &&
    isListOf(destinations, (each) => isText(fieldsOf(each).destination) && isCount(fieldsOf(each).count)) &&
    isListOf(refused, (each) => {
      const { why, count, example } = fieldsOf(each);
      return isText(why) && isCount(count) && isText(example);
    })
  );
}

function fieldsOf(given: unknown): Readonly<Record<string, unknown>> {
  return (given ?? {}) as Readonly<Record<string, unknown>>;
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isListOf(value: unknown, isOne: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(isOne);
}
