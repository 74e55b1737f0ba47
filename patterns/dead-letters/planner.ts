import type { BrokerInternals } from "../../core/broker-internals.ts";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Action, DiscardAction, type Edit, ReplayAction } from "./actions.ts";
import type { Archive } from "./archive.ts";
import type { DiscardOptions, PlannedRun, ReplayOptions, ResumeOptions } from "./contract.ts";
import {
  type DeadLetter,
  requireTarget,
  type Source,
  type Target,
  type TargetAddress,
  targetOf,
} from "./dead-letter.ts";
import { type DeadLetterFilter, matcher, printFilter } from "./filter.ts";
import { type JsonPatch, jsonPatchOf } from "./json-patch.ts";
import { type Plan, planOf, Selection, whyNotReplayed } from "./plan.ts";
import { Run } from "./run.ts";
import { type Pace, paceOf } from "./run-options.ts";
import type { Auditor } from "./run-result.ts";
import { scanAll } from "./scan.ts";

const DEFAULT_MAX_REPLAYS = 3;
const PACE = ["rate", "ramp"];

/** Makes plans and their runs. */
export class Planner {
  readonly #internals: BrokerInternals;
  readonly #source: Source;
  readonly #auditor: Auditor;
  readonly #by: string | undefined;
  readonly #patienceMs: number;

  constructor(
    internals: BrokerInternals,
    source: Source,
    auditor: Auditor,
    by: string | undefined,
    patienceMs: number,
  ) {
    this.#internals = internals;
    this.#source = source;
    this.#auditor = auditor;
    this.#by = by;
    this.#patienceMs = patienceMs;
  }

  /** `name` is the action in the audit. */
  async replay(where: string, filter: DeadLetterFilter, options: ReplayOptions, name = "replay"): Promise<PlannedRun> {
    checkOptions(where, options, [...PACE, "limit", "to", "maxReplays", "edit", "incomplete", "signal"]);
    const { to, maxReplays = DEFAULT_MAX_REPLAYS, incomplete = false } = options;
    checkInteger(`${where} { maxReplays }`, maxReplays, 1);
    const { kept, edit } = editOf(`${where} { edit }`, options.edit);
    const pace = paceOf(where, options);
    if (typeof incomplete !== "boolean")
      throw new MessagingError("invalid", `${where} { incomplete } takes true or false`);
    const target = targetOf(this.#internals, this.#source, to);
    this.#internals.requireStarted(where);
    if (to !== undefined) await requireTarget(this.#internals, target);
    refuseRampElsewhere(where, "replay", target, this.#source, pace);
    const guards = { maxReplays, edit: kept, incomplete };
    const made = { action: "replay", to: target, edit: kept, ...pace } as const;
    const plan = await this.#plan(made, filter, options, where, (letter) =>
      whyNotReplayed(letter, this.#source, target, guards),
    );
    const action = new ReplayAction(this.#internals, this.#source, target, plan.run, edit);
    return this.#planned(plan, action, name);
  }

  async discard(where: string, filter: DeadLetterFilter, options: DiscardOptions): Promise<PlannedRun> {
    checkOptions(where, options ?? {}, ["rate", "limit", "archive", "signal"]);
    const archive = checkArchive(where, options?.archive);
    const made = { action: "discard", to: undefined, edit: null, ...paceOf(where, options) } as const;
    const plan = await this.#plan(made, filter, options, where, () => undefined);
    return this.#planned(plan, this.#discarding(plan, archive), "discard");
  }

  async resume(where: string, given: Plan, options: ResumeOptions): Promise<PlannedRun> {
    checkOptions(where, options, [...PACE, "edit", "archive"]);
    const kept = planOf(given, this.#source.name);
    const plan: Plan = { ...kept, ...paceOf(where, options, kept) };
    refuseRampElsewhere(where, plan.action, plan.to, this.#source, plan);
    const edit = editAgain(where, plan, options.edit);
    if (plan.action === "discard")
      return this.#planned(plan, this.#discarding(plan, checkArchive(where, options.archive)), "discard");
    const { source } = plan;
    const to = plan.to as NonNullable<Plan["to"]>;
    // The plan does not store the codec of another destination. An edit is encoded with the source's codec.
    const target: Target = {
      ...to,
      name: plan.destinations[0]?.destination ?? source,
      codec: this.#source.codec,
      schema: this.#source.schema,
    };
    const action = new ReplayAction(this.#internals, this.#source, target, plan.run, edit);
    return this.#planned(plan, action, "replay");
  }

  #discarding({ run }: Plan, archive: Archive): Action {
    return new DiscardAction(this.#source, archive, { run, by: this.#by }, this.#internals.clock);
  }

  async #plan(
    made: Pace & Pick<Plan, "action" | "edit"> & { readonly to: Target | undefined },
    filter: DeadLetterFilter,
    { limit, signal }: Pick<ReplayOptions, "limit" | "signal">,
    where: string,
    whyNot: (letter: DeadLetter) => string | undefined | Promise<string | undefined>,
  ): Promise<Plan> {
    if (limit !== undefined) checkInteger(`${where} { limit }`, limit, 1);
    this.#internals.requireStarted(where);
    const now = this.#internals.clock.now();
    const matches = matcher(filter, now);
    const selection = new Selection();
    const choose = (letter: DeadLetter, why: string | undefined): void => {
      if (why === undefined) selection.add(letter);
      else selection.refuse(letter, why);
    };
    const options = { patienceMs: this.#patienceMs, ...(signal === undefined ? {} : { signal }) };
    const scanned = await scanAll(this.#internals, this.#source, options, (letter) => {
      if (!matches(letter)) return;
      const why = whyNot(letter);
      return why instanceof Promise ? why.then((because) => choose(letter, because)) : choose(letter, why);
    });
    const { entries, groups, beyondLimit } = selection.first(limit ?? Number.POSITIVE_INFINITY);
    const count = entries.length;
    const { action, to, edit, rate, ramp } = made;
    return {
      run: this.#internals.makeId(),
      action,
      source: this.#source.name,
      filter: printFilter(filter),
      plannedAt: new Date(now).toISOString(),
      by: this.#by ?? null,
      count,
      destinations: count === 0 ? [] : [{ destination: to?.name ?? this.#source.name, count }],
      refused: selection.refused,
      beyondLimit,
      to: to === undefined ? null : { address: to.address, ordered: to.ordered },
      rate,
      ramp,
      edit,
      groups,
      entries,
      ...scanned,
    };
  }

  #planned(plan: Plan, action: Action, name: string): PlannedRun {
    const [internals, source, auditor, patienceMs] = [this.#internals, this.#source, this.#auditor, this.#patienceMs];
    const by = this.#by;
    const where = `the ${plan.action} of dead letters of ${source.name}`;
    let running = false;
    return {
      plan,
      async run(options = {}) {
        internals.requireStarted(where);
        if (running) throw new MessagingError("conflict", `${where} is in progress already; wait for its end`);
        const run = new Run({ internals, source, plan, action, by, patienceMs }, options);
        running = true;
        try {
          await run.begin();
          await auditor.begun(plan, name);
          const result = await run.execute();
          await auditor.ended(plan, name, result);
          return result;
        } finally {
          running = false;
        }
      },
    };
  }
}

/** Failures at another destination go to the dead letters of that destination, which this run does not observe. */
function refuseRampElsewhere(
  where: string,
  action: Plan["action"],
  to: TargetAddress | null,
  source: Source,
  { ramp }: Pace,
): void {
  if (ramp === null) return;
  if (action === "discard")
    throw new MessagingError("invalid", `${where} { ramp } is for replays: discarded messages do not come back`);
  if (JSON.stringify(to?.address) === JSON.stringify(source.address)) return;
  throw new MessagingError(
    "invalid",
    `${where} { ramp }: failures at another destination go to its own dead letters and would not be noticed; use limit and rate`,
  );
}

function checkArchive(where: string, archive: Archive | undefined): Archive {
  if (typeof archive?.append === "function") return archive;
  throw new MessagingError("invalid", `${where} takes { archive }, such as fileArchive("discarded.jsonl")`);
}

/** Returns what the plan stores of an edit, and the edit. Throws `invalid` unless it is a function or a patch. */
function editOf(
  where: string,
  given: Edit | JsonPatch | undefined,
): { readonly kept: Plan["edit"]; readonly edit: Edit | JsonPatch | undefined } {
  if (given === undefined) return { kept: null, edit: undefined };
  if (typeof given === "function") return { kept: "function", edit: given };
  const patch = jsonPatchOf(where, given);
  return { kept: patch, edit: patch };
}

/** The edit of a resumed plan. */
function editAgain(where: string, { edit: kept }: Plan, given: Edit | undefined): Edit | JsonPatch | undefined {
  if (given !== undefined && typeof given !== "function") {
    throw new MessagingError("invalid", `${where} { edit } takes a function; the plan has the patch`);
  }
  if (kept === "function") {
    if (given !== undefined) return given;
    throw new MessagingError(
      "invalid",
      `${where}: the plan edits messages with a function; pass the same function as { edit }`,
    );
  }
  if (given === undefined) return kept ?? undefined;
  const plan = kept === null ? "sends messages unchanged" : "has a patch";
  throw new MessagingError("invalid", `${where} { edit }: the plan ${plan}; make a new plan for another edit`);
}
