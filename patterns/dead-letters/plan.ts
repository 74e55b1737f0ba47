import type { IncomingMessage } from "../../core/adapter.ts";
import { type Codec, roundedNumber } from "../../core/codec.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { encodeChecked } from "../../core/publish/encode-message.ts";
import {
  type DeadLetter,
  isTargetAddress,
  normalisedError,
  type Source,
  type Target,
  type TargetAddress,
} from "./dead-letter.ts";
import { isValid, type Validity } from "./entry.ts";
import { comparePlaces, type Place, placeOf } from "./groups.ts";
import { applyJsonPatch, type JsonPatch, jsonPatchOf } from "./json-patch.ts";
import { isPace, type Pace } from "./run-options.ts";
import type { DeadLetterScan } from "./scan.ts";

/** Selected entries that a plan refuses. */
export interface Refused {
  readonly why: string;
  readonly count: number;
  /** The id of one such entry. */
  readonly example: string;
}

/**
 * What a run will do. Plain JSON: store it (`JSON.stringify`) to resume the run after a crash. It lists every entry, about
 * 100 bytes each. Messages that are dead-lettered later are not part of it.
 */
export interface Plan extends DeadLetterScan, Pace {
  /** The id of the run. Every replayed message has it in a header. */
  readonly run: string;
  readonly action: "replay" | "discard";
  /** The queue or subscription: `orders`, `order.placed..billing`. */
  readonly source: string;
  /** The filter as text. */
  readonly filter: string;
  /** ISO time. Ages in the filter are computed up to it. */
  readonly plannedAt: string;
  /** Who planned it, if `by` was given. */
  readonly by: string | null;
  /** The number of entries to replay or discard. */
  readonly count: number;
  /** The destinations with their numbers of messages; for a discard, the source. */
  readonly destinations: readonly { readonly destination: string; readonly count: number }[];
  /** Selected entries that are refused, and why. */
  readonly refused: readonly Refused[];
  /** How many selected entries are over `limit`. They failed last. */
  readonly beyondLimit: number;
  /** The target of a replay; null for a discard. */
  readonly to: TargetAddress | null;
  /**
   * The JSON patch of a replay; `function` for a function, which a plan cannot store and a resume needs again; null without
   * an edit.
   */
  readonly edit: JsonPatch | "function" | null;
  /** The failures of the selected entries, the largest group first, at most 100 groups. */
  readonly groups: readonly PlannedGroup[];
  /** The entries, the oldest failures first. */
  readonly entries: readonly PlannedEntry[];
}

/** An entry of a plan. */
export interface PlannedEntry {
  /** The id of the entry. */
  readonly id: string;
  readonly messageId: string;
}

/** Entries of a plan with the same failure. */
export interface PlannedGroup {
  /** The fingerprint, as `groups` has it. */
  readonly group: string;
  readonly errorClass: string | null;
  /** The normalised message: values are replaced by the names of their kinds. */
  readonly error: string;
  readonly count: number;
}

const MOST_GROUPS = 100;

interface Selected extends Place {
  readonly messageId: string;
  readonly group: string;
}

/** Collects what a plan selects. */
export class Selection {
  readonly #selected = new Map<string, Selected>();
  readonly #groups = new Map<string, Omit<PlannedGroup, "count">>();
  readonly #refused = new Map<string, { count: number; example: string }>();

  add(letter: DeadLetter): void {
    const { group, errorClass = null, error = "", message } = letter;
    if (!this.#groups.has(group)) this.#groups.set(group, { group, errorClass, error: normalisedError(error) });
    // All entries of a group share one string, to save memory.
    const same = this.#groups.get(group)?.group ?? group;
    this.#selected.set(letter.id, { ...placeOf(letter), messageId: message.id, group: same });
  }

  refuse(letter: DeadLetter, why: string): void {
    const known = this.#refused.get(why);
    if (known === undefined) this.#refused.set(why, { count: 1, example: letter.id });
    else known.count++;
  }

  get refused(): readonly Refused[] {
    return [...this.#refused].map(([why, { count, example }]) => ({ why, count, example }));
  }

  /** The first `limit` entries, and their groups. */
  first(limit: number): Pick<Plan, "entries" | "groups" | "beyondLimit"> {
    const all = [...this.#selected.values()].sort(comparePlaces);
    const first = all.slice(0, limit);
    const counts = new Map<string, number>();
    for (const { group } of first) counts.set(group, (counts.get(group) ?? 0) + 1);
    const groups = [...counts]
      .map(([group, count]): PlannedGroup => ({ ...(this.#groups.get(group) as PlannedGroup), count }))
      .sort((one, other) => other.count - one.count || (one.group < other.group ? -1 : 1))
      .slice(0, MOST_GROUPS);
    const entries = first.map(({ id, messageId }) => ({ id, messageId }));
    return { entries, groups, beyondLimit: all.length - entries.length };
  }
}

/** The rules that a replay obeys. */
interface ReplayGuards {
  readonly maxReplays: number;
  /** A patch is tried while planning, a function only when the message is sent. */
  readonly edit: JsonPatch | "function" | null;
  /** Whether to send messages that lost headers too. */
  readonly incomplete: boolean;
}

/**
 * Why a dead letter is not replayed; undefined if it can be. A promise only if the schema is asynchronous or the dead letter
 * is a reference.
 */
export function whyNotReplayed(
  letter: DeadLetter,
  source: Source,
  target: Target,
  { maxReplays, edit, incomplete }: ReplayGuards,
): string | undefined | Promise<string | undefined> {
  if (letter.replays >= maxReplays) return `sent back ${maxReplays} times already (maxReplays)`;
  if (letter.cut !== undefined && !incomplete) {
    return "headers were cut, or were over the limits and not read; set incomplete to send it without them";
  }
  // The body that a function makes is checked when it is sent.
  if (edit === "function") return undefined;
  if (edit !== null && letter.reference === undefined) return whyNotPatched(letter, source, target, edit);
  if (edit !== null) return undefined;
  if (letter.reference !== undefined) {
    return source.originals.use(letter, (messages) => whyNoneReplayed(messages, target)).catch(whyUnread);
  }
  return refusedBy(isValid(letter, target), target);
}

function whyNotPatched(
  { message }: DeadLetter,
  { codec: read }: Source,
  { schema, codec, name }: Target,
  patch: JsonPatch,
): string | undefined | Promise<string | undefined> {
  const why = (error: unknown): string =>
    isMessagingError(error) ? error.message : "the patch cannot be applied to its body";
  try {
    const form = { where: `edit for ${name}`, schema, codec };
    const encoded = encodeChecked(form, patched(read, message.body, patch), (body) =>
      refuseRounded(message.body, body),
    );
    return encoded instanceof Promise ? encoded.catch(why) : undefined;
  } catch (error) {
    return why(error);
  }
}

/** Returns the patched body. Throws `invalid` if it cannot be decoded, or if the patch does not fit. */
export function patched(codec: Codec, body: Uint8Array, patch: JsonPatch): unknown {
  let decoded: unknown;
  try {
    decoded = codec.decode(body);
  } catch (cause) {
    const text =
      "its body cannot be read by the codec, so a patch cannot be applied; edit it with a function, or edit single entries";
    throw new MessagingError("invalid", text, { cause });
  }
  return applyJsonPatch(decoded, patch);
}

/**
 * Throws `invalid` if a number of the JSON lost digits by parsing and formatting it: a 64-bit id would change unnoticed.
 */
export function refuseRounded(before: Uint8Array, after: Uint8Array): undefined {
  const [from, to] = [jsonText(before), jsonText(after)];
  if (from === undefined || to === undefined || roundedNumber(from, to) === undefined) return;
  const text =
    "its body has a number that JavaScript cannot keep exactly, such as an integer beyond 2^53, and the edited copy would have another one. Use a codec that keeps it, or set that value in the edit";
  throw new MessagingError("invalid", text);
}

function jsonText(bytes: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    JSON.parse(text);
    return text;
  } catch {
    return undefined;
  }
}

/** Invalid messages of a batch fail by themselves, so a batch is not checked here. */
function whyNoneReplayed(
  messages: readonly IncomingMessage[],
  target: Target,
): string | undefined | Promise<string | undefined> {
  const [message, ...more] = messages;
  if (message === undefined || more.length > 0) return undefined;
  return refusedBy(isValid({ message }, target), target);
}

function refusedBy(
  valid: Validity | Promise<Validity>,
  { name }: Target,
): string | undefined | Promise<string | undefined> {
  const refused = `the codec or the schema of ${name} does not take its body: it would fail again; edit or discard it`;
  if (!(valid instanceof Promise)) return valid === false ? refused : undefined;
  return valid.then((is) => (is === false ? refused : undefined));
}

function whyUnread(error: unknown): string {
  const code = isMessagingError(error) ? error.code : "refused";
  if (code === "not-found") return "the message that it refers to is gone; discard it";
  return `the message that it refers to cannot be read (${code})`;
}

/** Ids of runs. They are header values and file names. */
const RUN = /^[\w-]{1,100}$/;

/** Checks a stored plan. Throws `invalid` if it is none, or if it is for another source. */
export function planOf(given: unknown, source: string): Plan {
  const plan = planFrom(given);
  if (plan.source === source) return plan;
  throw new MessagingError(
    "invalid",
    `the plan is for the dead letters of ${plan.source}, not of ${source}: resume it on ${plan.source}, or plan anew for ${source}`,
  );
}

/** Checks a stored plan of any source. Throws `invalid` if it is none. */
export function planFrom(given: unknown): Plan {
  if (isPlan(given)) return given;
  throw new MessagingError(
    "invalid",
    "this is no plan of a replay or a discard: pass one that was stored as JSON, such as a file of anybroker-runs, or plan anew",
  );
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
    (plan.elsewhere === null || isCount(plan.elsewhere)) &&
    (plan.by === null || isText(plan.by)) &&
    isPace(plan) &&
    isEdit(plan.edit) &&
    isListOf(entries, (each) => isText(fieldsOf(each).id) && isText(fieldsOf(each).messageId)) &&
    isListOf(plan.groups, (each) => {
      const { group, errorClass, error, count } = fieldsOf(each);
      return isText(group) && (errorClass === null || isText(errorClass)) && isText(error) && isCount(count);
    }) &&
    isListOf(destinations, (each) => isText(fieldsOf(each).destination) && isCount(fieldsOf(each).count)) &&
    isListOf(refused, (each) => {
      const { why, count, example } = fieldsOf(each);
      return isText(why) && isCount(count) && isText(example);
    })
  );
}

function isEdit(given: unknown): boolean {
  if (given === null || given === "function") return true;
  try {
    return jsonPatchOf("plan", given).length > 0;
  } catch {
    return false;
  }
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
