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

/** Entries that were asked for and are not in a plan. */
export interface Refused {
  readonly why: string;
  readonly count: number;
  /** The id of one of them. */
  readonly example: string;
}

/**
 * What a run is going to do: plain JSON, to be read, and to be kept (`JSON.stringify`) so that the run can be taken up
 * again after a crash. It names every entry, by some 100 bytes each: what is dead-lettered later is in no plan.
 */
export interface Plan extends DeadLetterScan, Pace {
  /** Names the run; it stands in a header of every message that the run sends back. */
  readonly run: string;
  readonly action: "replay" | "discard";
  /** Whose dead letters: `orders`, `order.placed..billing`. */
  readonly source: string;
  /** What was asked for, as text. */
  readonly filter: string;
  /** ISO time; ages in the filter are counted up to it. */
  readonly plannedAt: string;
  /** Who planned it, as far as it was told. */
  readonly by: string | null;
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
  /**
   * For a replay that edits: the JSON patch, or `function` for what a plan cannot keep and a resume has to be given again.
   * Null where messages are sent back as they were.
   */
  readonly edit: JsonPatch | "function" | null;
  /** How the selected failed, the largest group first: 100 groups at most. */
  readonly groups: readonly PlannedGroup[];
  /** The entries, those that failed first before the others. */
  readonly entries: readonly PlannedEntry[];
}

/** An entry of a plan. */
export interface PlannedEntry {
  /** The id of the entry. */
  readonly id: string;
  readonly messageId: string;
}

/** What failed in one way among the entries of a plan. */
export interface PlannedGroup {
  /** The fingerprint, as `groups` has it. */
  readonly group: string;
  readonly errorClass: string | null;
  /** The error's message with what differs from one to the next taken out. */
  readonly error: string;
  readonly count: number;
}

const MOST_GROUPS = 100;

interface Selected extends Place {
  readonly messageId: string;
  readonly group: string;
}

/** Gathers what a run selects. */
export class Selection {
  readonly #selected = new Map<string, Selected>();
  readonly #groups = new Map<string, Omit<PlannedGroup, "count">>();
  readonly #refused = new Map<string, { count: number; example: string }>();

  add(letter: DeadLetter): void {
    const { group, errorClass = null, error = "", message } = letter;
    if (!this.#groups.has(group)) this.#groups.set(group, { group, errorClass, error: normalisedError(error) });
    // One text for all of a group.
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

  /** The first so many, and how they failed. */
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

/** What keeps dead letters from being sent back. */
interface ReplayGuards {
  readonly maxReplays: number;
  /** What makes the body that is sent; a function is not asked before it is sent. */
  readonly edit: JsonPatch | "function" | null;
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
  { maxReplays, edit, incomplete }: ReplayGuards,
): string | undefined | Promise<string | undefined> {
  if (letter.replays >= maxReplays) return `sent back ${maxReplays} times already (maxReplays)`;
  if (letter.cut !== undefined && !incomplete) {
    return "headers were cut, or were over the limits and not read; sent back, it would go without them (incomplete)";
  }
  // What a function makes of the body is checked when it is made.
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

/** The body after a patch. Throws `invalid` where it cannot be read, or the patch does not fit. */
export function patched(codec: Codec, body: Uint8Array, patch: JsonPatch): unknown {
  let decoded: unknown;
  try {
    decoded = codec.decode(body);
  } catch (cause) {
    const text =
      "its body cannot be read by the codec, and a patch is of what can; edit it by a function, or one by one";
    throw new MessagingError("invalid", text, { cause });
  }
  return applyJsonPatch(decoded, patch);
}

/**
 * Throws `invalid` where JSON that was read and written again lost digits of a number, which is no part of the edit: an id of 64
 * bits is another one then.
 */
export function refuseRounded(before: Uint8Array, after: Uint8Array): undefined {
  const [from, to] = [jsonText(before), jsonText(after)];
  if (from === undefined || to === undefined || roundedNumber(from, to) === undefined) return;
  const text =
    "its body holds a number that JavaScript cannot keep, such as an integer beyond 2^53, and the edited copy would hold another one. Give the destination a codec that keeps it, or have the edit write that value anew";
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

/** As runs are named: it travels in a header, and names a file. */
const RUN = /^[\w-]{1,100}$/;

/** A plan that was kept, read back. Throws `invalid` for what is none, or is another source's. */
export function planOf(given: unknown, source: string): Plan {
  const plan = planFrom(given);
  if (plan.source === source) return plan;
  throw new MessagingError(
    "invalid",
    `the plan is for the dead letters of ${plan.source}, and these are those of ${source}: resume it on ${plan.source}, or plan anew for ${source}`,
  );
}

/** A plan that was kept in JSON, of any source. Throws `invalid` for what is none. */
export function planFrom(given: unknown): Plan {
  if (isPlan(given)) return given;
  throw new MessagingError(
    "invalid",
    "what was given is no plan of a replay or a discard: give one as it was kept in JSON, such as a file of anybroker-runs, or plan anew",
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
