import type { BrokerInternals } from "../../core/broker-internals.ts";
import { MessagingError } from "../../core/errors.ts";
import { checkInteger, checkOptions } from "../../core/names.ts";
import type { Action } from "./action.ts";
import type { Archive } from "./archive.ts";
import type { Auditor } from "./audit.ts";
import type { DiscardOptions, PlannedRun, ReplayOptions, ResumeOptions } from "./contract.ts";
import type { DeadLetter } from "./dead-letter.ts";
import { DiscardAction } from "./discard.ts";
import type { Filter } from "./filter.ts";
import { matcher } from "./filter-match.ts";
import { printFilter } from "./filter-text.ts";
import { lookAtAll } from "./look.ts";
import { type Plan, planOf, Selection, whyNotReplayed } from "./plan.ts";
import { ReplayAction } from "./replay.ts";
import { Run } from "./run.ts";
import type { Source } from "./source.ts";
import { requireTarget, type Target, targetOf } from "./target.ts";

const DEFAULT_MAX_REPLAYS = 3;

/** Makes plans, and what carries them out. */
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

  /** `name` is what the audit calls it. */
  async replay(where: string, filter: Filter, options: ReplayOptions, name = "replay"): Promise<PlannedRun> {
    checkOptions(where, options, ["limit", "to", "maxReplays", "edit", "incomplete", "signal"]);
    const { to, edit, maxReplays = DEFAULT_MAX_REPLAYS, incomplete = false } = options;
    checkInteger(`${where} { maxReplays }`, maxReplays, 1);
    checkFunction(`${where} { edit }`, edit);
    if (typeof incomplete !== "boolean")
      throw new MessagingError("invalid", `${where} { incomplete } takes true or false`);
    const target = targetOf(this.#internals, this.#source, to);
    this.#internals.requireStarted(where);
    if (to !== undefined) await requireTarget(this.#internals, target);
    const guards = { maxReplays, edited: edit !== undefined, incomplete };
    const plan = await this.#plan("replay", filter, options, where, target, (letter) =>
      whyNotReplayed(letter, this.#source, target, guards),
    );
    const action = new ReplayAction(this.#internals, this.#source, target, plan.run, edit);
    return this.#planned(plan, action, name);
  }

  async discard(where: string, filter: Filter, options: DiscardOptions): Promise<PlannedRun> {
    checkOptions(where, options ?? {}, ["limit", "archive", "signal"]);
    const archive = checkArchive(where, options?.archive);
    const plan = await this.#plan("discard", filter, options, where, undefined, () => undefined);
    return this.#planned(plan, this.#discarding(plan, archive), "discard");
  }

  async resume(where: string, given: Plan, options: ResumeOptions): Promise<PlannedRun> {
    checkOptions(where, options, ["edit", "archive"]);
    checkFunction(`${where} { edit }`, options.edit);
    const plan = planOf(given, this.#source.name);
    if (plan.action === "discard")
      return this.#planned(plan, this.#discarding(plan, checkArchive(where, options.archive)), "discard");
    const { source } = plan;
    const to = plan.to as NonNullable<Plan["to"]>;
    // The codec of another destination is not in the plan; an edit then writes as this one.
    const target: Target = {
      ...to,
      name: plan.destinations[0]?.destination ?? source,
      codec: this.#source.codec,
      schema: this.#source.schema,
    };
    const action = new ReplayAction(this.#internals, this.#source, target, plan.run, options.edit);
    return this.#planned(plan, action, "replay");
  }

  #discarding({ run }: Plan, archive: Archive): Action {
    return new DiscardAction(this.#source, archive, { run, by: this.#by }, this.#internals.clock);
  }

  async #plan(
    action: Plan["action"],
    filter: Filter,
    { limit, signal }: Pick<ReplayOptions, "limit" | "signal">,
    where: string,
    to: Target | undefined,
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
    const looked = await lookAtAll(this.#internals, this.#source, options, (letter) => {
      if (!matches(letter)) return;
      const why = whyNot(letter);
      return why instanceof Promise ? why.then((because) => choose(letter, because)) : choose(letter, why);
    });
    const { entries, beyondLimit } = selection.first(limit ?? Number.POSITIVE_INFINITY);
    const count = entries.length;
    return {
      run: this.#internals.makeId(),
      action,
      source: this.#source.name,
      filter: printFilter(filter),
      plannedAt: new Date(now).toISOString(),
      count,
      destinations: count === 0 ? [] : [{ destination: to?.name ?? this.#source.name, count }],
      refused: selection.refused,
      beyondLimit,
      to: to === undefined ? null : { address: to.address, ordered: to.ordered },
      entries,
      ...looked,
    };
  }

  #planned(plan: Plan, action: Action, name: string): PlannedRun {
    const [internals, source, auditor, patienceMs] = [this.#internals, this.#source, this.#auditor, this.#patienceMs];
    const where = `the ${plan.action} of dead letters of ${source.name}`;
    let running = false;
    return {
      plan,
      async run(options = {}) {
        internals.requireStarted(where);
        if (running) throw new MessagingError("conflict", `${where} is under way already; wait for its end`);
        refuseRampElsewhere(where, plan, source, options.ramp);
        const run = new Run({ internals, source, plan, action, patienceMs }, options);
        running = true;
        try {
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

/** What fails there comes to the dead letters there, where nobody looks. */
function refuseRampElsewhere(where: string, { to, action }: Plan, source: Source, ramp: unknown): void {
  if (ramp === undefined || ramp === false) return;
  if (action === "discard")
    throw new MessagingError("invalid", `${where} { ramp }: what is discarded does not come back`);
  if (JSON.stringify(to?.address) === JSON.stringify(source.address)) return;
  throw new MessagingError(
    "invalid",
    `${where} { ramp }: what fails at another destination comes to the dead letters there, where it would not be seen; use limit and rate`,
  );
}

function checkArchive(where: string, archive: Archive | undefined): Archive {
  if (typeof archive?.append === "function") return archive;
  throw new MessagingError("invalid", `${where} takes { archive }, such as fileArchive("discarded.jsonl")`);
}

function checkFunction(where: string, given: unknown): void {
  if (given === undefined || typeof given === "function") return;
  throw new MessagingError("invalid", `${where} takes a function`);
}
