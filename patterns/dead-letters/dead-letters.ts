import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { shownId } from "../../core/foreign.ts";
import type { Edit } from "./actions.ts";
import type {
  Count,
  DeadLetters,
  DeadLettersOptions,
  DiscardOptions,
  Edited,
  EditOptions,
  FilterOrText,
  GroupOptions,
  Groups,
  ListOptions,
  Page,
  PlannedRun,
  ReadOptions,
  ReplayOptions,
  ResumeOptions,
} from "./contract.ts";
import { type DeadLetter, type Source, sourceOf } from "./dead-letter.ts";
import { type DeadLetterEntry, entryOf } from "./entry.ts";
import { type DeadLetterFilter, filterOf, matcher } from "./filter.ts";
import { comparePlaces, FirstOf, Grouping, parsePlace, placeOf, printPlace } from "./groups.ts";
import type { JsonPatch } from "./json-patch.ts";
import type { Plan } from "./plan.ts";
import { Planner } from "./planner.ts";
import { Auditor, type MissingReason } from "./run-result.ts";
import { type DeadLetterScan, scan, scanAll } from "./scan.ts";

const DEFAULT_PATIENCE_MS = 30_000;
const DEFAULT_BODY_BYTES = 64 * 1024;
const DEFAULT_PAGE = 50;
const LARGEST_PAGE = 1_000;
const DEFAULT_GROUPS = 1_000;
const READ_OPTIONS = ["filter", "bodyBytes", "patienceMs", "signal"];

/**
 * Reads, replays, edits and discards the dead letters of a queue, or of one subscription of a topic; see
 * {@link DeadLetters}. The broker object must be made by `createBroker` and be started. List the destination in its
 * `destinations` unless it is consumed. Throws `invalid` for wrong options.
 */
export function deadLetters(broker: Broker, queue: Queue<never, unknown>, options?: DeadLettersOptions): DeadLetters;
export function deadLetters(
  broker: Broker,
  topic: Topic<never, unknown>,
  subscription: string,
  options?: DeadLettersOptions,
): DeadLetters;
export function deadLetters(
  broker: Broker,
  destination: Queue<never, unknown> | Topic<never, unknown>,
  second?: string | DeadLettersOptions,
  third?: DeadLettersOptions,
): DeadLetters {
  const internals = internalsOf(broker, "deadLetters");
  const subscription = typeof second === "string" ? second : undefined;
  const options = (typeof second === "string" ? third : second) ?? {};
  checkOptions("deadLetters", options, ["by", "audit", "patienceMs"]);
  const { by, audit, patienceMs = DEFAULT_PATIENCE_MS } = options;
  checkInteger("deadLetters { patienceMs }", patienceMs, 0);
  if (by !== undefined && typeof by !== "string")
    throw new MessagingError("invalid", "deadLetters { by } takes a string");
  if (audit !== undefined && typeof audit !== "function") {
    throw new MessagingError("invalid", "deadLetters { audit } takes a function");
  }
  const source = sourceOf(internals, destination, subscription);
  return new SourceDeadLetters(internals, source, new Auditor(internals, by, audit), by, patienceMs);
}

class SourceDeadLetters implements DeadLetters {
  readonly source: string;
  readonly #internals: BrokerInternals;
  readonly #source: Source;
  readonly #planner: Planner;
  readonly #patienceMs: number;

  constructor(
    internals: BrokerInternals,
    source: Source,
    auditor: Auditor,
    by: string | undefined,
    patienceMs: number,
  ) {
    this.source = source.name;
    this.#internals = internals;
    this.#source = source;
    this.#patienceMs = patienceMs;
    this.#planner = new Planner(internals, source, auditor, by, patienceMs);
  }

  async list(options: ListOptions = {}): Promise<Page> {
    const where = this.#where("list");
    checkOptions(where, options, [...READ_OPTIONS, "limit", "cursor"]);
    const { limit = DEFAULT_PAGE, cursor } = options;
    checkInteger(`${where} { limit }`, limit, 1, LARGEST_PAGE);
    const bodyBytes = bodyBytesOf(where, options);
    const behind = cursor === undefined ? undefined : parsePlace(cursor);
    if (cursor !== undefined && behind === undefined) {
      throw new MessagingError("invalid", `${where} { cursor } takes the \`next\` of the page before`);
    }
    const first = new FirstOf<DeadLetterEntry | Promise<DeadLetterEntry>>(limit);
    const scanned = await this.#scan(where, options, (letter) => {
      const place = placeOf(letter);
      if (behind !== undefined && comparePlaces(place, behind) <= 0) return;
      first.offer(place, () => entryOf(letter, this.#source, bodyBytes));
    });
    const entries = await Promise.all(first.kept.map(({ item }) => item));
    const last = first.kept.at(-1);
    return { entries, next: first.more && last !== undefined ? printPlace(last.place) : null, ...scanned };
  }

  async *entries(options: ReadOptions = {}): AsyncGenerator<DeadLetterEntry, void, undefined> {
    const where = this.#where("entries");
    checkOptions(where, options, READ_OPTIONS);
    const bodyBytes = bodyBytesOf(where, options);
    const matches = this.#matcher(where, options.filter);
    for await (const batch of scan(this.#internals, this.#source, this.#scanOptions(options))) {
      for (const letter of batch) if (matches(letter)) yield entryOf(letter, this.#source, bodyBytes);
    }
  }

  async count(filter?: FilterOrText): Promise<Count> {
    const where = this.#where("count");
    const conditions = this.#filter(where, filter);
    if (conditions.length === 0) {
      this.#internals.requireStarted(where);
      const {
        ready,
        unsettled = 0,
        consumers = 0,
        exact,
      } = await this.#internals.adapter.depth(this.#source.deadLetters);
      return { count: ready + unsettled, held: false, complete: exact, elsewhere: consumers > 0 ? null : 0 };
    }
    let count = 0;
    const scanned = await this.#scan(where, { filter: conditions }, () => void count++);
    return { count, ...scanned };
  }

  async groups(options: GroupOptions = {}): Promise<Groups> {
    const where = this.#where("groups");
    checkOptions(where, options, [...READ_OPTIONS, "limit"]);
    const { limit = DEFAULT_GROUPS } = options;
    checkInteger(`${where} { limit }`, limit, 1);
    const grouping = new Grouping(this.#source, bodyBytesOf(where, options), limit);
    const scanned = await this.#scan(where, options, (letter) => grouping.add(letter));
    return { groups: await grouping.groups(), others: grouping.others, ...scanned };
  }

  async replay(filter: FilterOrText, options: ReplayOptions = {}): Promise<PlannedRun> {
    const where = this.#where("replay");
    return this.#planner.replay(where, this.#filter(where, filter), options);
  }

  async discard(filter: FilterOrText, options: DiscardOptions): Promise<PlannedRun> {
    const where = this.#where("discard");
    return this.#planner.discard(where, this.#filter(where, filter), options);
  }

  async resume(plan: Plan, options: ResumeOptions = {}): Promise<PlannedRun> {
    return this.#planner.resume(this.#where("resume"), plan, options);
  }

  async edit(id: string, edit: Edit | JsonPatch, options: EditOptions = {}): Promise<Edited> {
    const where = this.#where("edit");
    checkOptions(where, options, ["to", "maxReplays", "incomplete"]);
    if (typeof id !== "string" || id === "") throw new MessagingError("invalid", `${where} takes the id of an entry`);
    if (typeof edit !== "function" && !Array.isArray(edit)) {
      throw new MessagingError("invalid", `${where} takes a function, or a JSON patch`);
    }
    const filter: DeadLetterFilter = [{ field: "id", is: "=", value: id }];
    const planned = await this.#planner.replay(where, filter, { ...options, edit }, "edit");
    const { count, refused } = planned.plan;
    if (count > 1) {
      throw new MessagingError(
        "conflict",
        `${where}: ${count} entries have message id "${shownId(id)}"; pass the id of one entry`,
      );
    }
    if (refused[0] !== undefined)
      throw new MessagingError("invalid", `${where}: entry "${shownId(id)}" is refused: ${refused[0].why}`);
    if (count === 0) throw new MessagingError("not-found", `${where}: there is no entry "${shownId(id)}"`);
    const { edited, failures, error, missed } = await planned.run();
    const [copy] = edited;
    if (copy !== undefined) return { id: copy.id, editedFrom: copy.from };
    const failure = error ?? failures[0]?.error;
    if (failure !== undefined) throw failure;
    const [gone] = missed;
    const why = gone === undefined ? "the edit returned undefined" : GONE[gone.why];
    throw new MessagingError("not-found", `${where}: entry "${shownId(id)}" was not edited: ${why}`);
  }

  #where(verb: string): string {
    return `deadLetters(${this.source}).${verb}`;
  }

  #filter(where: string, filter: FilterOrText | undefined): DeadLetterFilter {
    return filter === undefined ? [] : filterOf(where, filter, this.source);
  }

  #matcher(where: string, filter: FilterOrText | undefined): (letter: DeadLetter) => boolean {
    this.#internals.requireStarted(where);
    return matcher(this.#filter(where, filter), this.#internals.clock.now());
  }

  #scanOptions({ signal, patienceMs }: ReadOptions) {
    if (patienceMs !== undefined) checkInteger(`${this.source} { patienceMs }`, patienceMs, 0);
    return {
      patienceMs: this.#patienceMs,
      ...(patienceMs === undefined ? {} : { othersMs: patienceMs }),
      ...(signal === undefined ? {} : { signal }),
    };
  }

  #scan(where: string, options: ReadOptions, visit: (letter: DeadLetter) => void): Promise<DeadLetterScan> {
    const matches = this.#matcher(where, options.filter);
    return scanAll(this.#internals, this.#source, this.#scanOptions(options), (letter) => {
      if (matches(letter)) visit(letter);
    });
  }
}

const GONE: Readonly<Record<MissingReason, string>> = Object.freeze({
  handled: "it was sent back before",
  "dead-again": "it was sent back and dead-lettered again, as another entry",
  removed: "it was removed in the meantime",
  unknown: "it was removed in the meantime, or another process holds it",
});

function bodyBytesOf(where: string, { bodyBytes = DEFAULT_BODY_BYTES }: ReadOptions): number {
  checkInteger(`${where} { bodyBytes }`, bodyBytes, 0);
  return bodyBytes;
}
