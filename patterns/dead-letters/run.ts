import type { IncomingMessage } from "../../core/adapter.ts";
import type { WorkAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { type Clock, pause, within } from "../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import { type Action, DONE, endsRun, type Outcome } from "./actions.ts";
import { DeadLetter, type Source } from "./dead-letter.ts";
import { type Earlier, JournalWriter } from "./journal.ts";
import type { Plan } from "./plan.ts";
import { Holder, type Taken } from "./receiver.ts";
import { checkRunOptions, type Ramp, type RunOptions } from "./run-options.ts";
import { type MissingReason, type RunResult, Tally } from "./run-result.ts";
import { DrainDetection, Remaining } from "./scan.ts";

/** The time between two requests. */
const FIRST_POLL_MS = 100;
const LONGEST_POLL_MS = 2_000;
/** How often a broker with inexact counts must report that nothing is left. */
const INEXACT_REPORTS = 3;
/** Errors that another request would meet too. */
const PERMANENT: readonly MessagingErrorCode[] = ["unauthorized", "not-found", "unsupported"];

/**
 * Detects that consumers handled what waits at an address when this is made: nothing waits any more, or as many messages
 * are gone since. Exact only if messages are handled in order and the broker counts exactly.
 */
class Backlog {
  readonly #internals: BrokerInternals;
  readonly #of: WorkAddress;
  #atFirst: number | undefined;
  #last = 0;
  #gone = 0;
  #empty = 0;
  #pollMs = FIRST_POLL_MS;
  #nextPoll: number;

  constructor(internals: BrokerInternals, of: WorkAddress) {
    this.#internals = internals;
    this.#of = of;
    this.#nextPoll = internals.clock.monotonic();
  }

  /** Asks the broker, unless it did a moment ago. `unreported`: the broker does not report what consumers hold. */
  async check(): Promise<"waits" | "handled" | "unreported"> {
    const { adapter, clock } = this.#internals;
    const now = clock.monotonic();
    if (now < this.#nextPoll) return "waits";
    this.#nextPoll = now + this.#pollMs;
    this.#pollMs = Math.min(this.#pollMs * 2, LONGEST_POLL_MS);
    try {
      const { ready, unsettled = 0, consumers = 0, exact } = await adapter.depth(this.#of);
      const remaining = ready + unsettled;
      this.#atFirst ??= remaining;
      this.#gone += Math.max(this.#last - remaining, 0);
      this.#last = remaining;
      this.#empty = remaining === 0 ? this.#empty + 1 : 0;
      const passed = this.#atFirst > 0 && this.#gone >= this.#atFirst;
      if (!passed && this.#empty < (exact ? 1 : INEXACT_REPORTS)) return "waits";
      return consumers > 0 ? "unreported" : "handled";
    } catch (error) {
      if (!isMessagingError(error)) throw error;
      return PERMANENT.includes(error.code) ? "unreported" : "waits";
    }
  }
}

const MOST_LATE_MS = 20;

/** Spaces calls evenly. */
export class Pacer {
  readonly #clock: Clock;
  readonly #everyMs: number;
  #next: number | undefined;

  /** Without a rate there is no delay. */
  constructor(clock: Clock, perSecond: number | undefined) {
    this.#clock = clock;
    this.#everyMs = perSecond === undefined ? 0 : 1_000 / perSecond;
  }

  /** Resolves when the next call may start, or the signal is aborted. One call at a time. */
  async pass(signal: AbortSignal | undefined): Promise<void> {
    if (this.#everyMs === 0) return;
    const now = this.#clock.monotonic();
    // A late timer is caught up; idle time is not.
    const at = Math.max(this.#next ?? now, now - MOST_LATE_MS);
    this.#next = at + this.#everyMs;
    await pause(this.#clock, at - now, signal);
  }
}

/** The parts of a run. */
interface RunParts {
  readonly internals: BrokerInternals;
  readonly source: Source;
  readonly plan: Plan;
  readonly action: Action;
  /** Who runs it. */
  readonly by: string | undefined;
  /** How long to wait for what others hold, in milliseconds. */
  readonly patienceMs: number;
}

interface Work {
  readonly taken: Taken;
  readonly letter: DeadLetter;
}

/** The longest single wait of a loop. */
const POLL_MS = 250;
/** How long a stopped run waits for removals that the broker refuses. */
const END_MS = 5_000;

/**
 * Executes a plan: takes each entry, sends or archives it, and then removes it. A crash in between leaves the entry, and
 * the action is repeated under the same id.
 */
export class Run {
  readonly #parts: RunParts;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: RunOptions["onProgress"];
  readonly #ramp: Required<Ramp> | null;
  readonly #pacer: Pacer;
  readonly #journal: JournalWriter;
  /** What earlier parts of this run did, from the journal. */
  #earlier: Earlier = { done: new Set(), cameBack: new Set() };
  /** Entry ids of the plan by message id. */
  readonly #planned = new Map<string, string>();
  /** New entry ids of messages of the plan that were dead-lettered again, by message id. */
  readonly #again = new Map<string, string>();
  /** The ids of messages that came back after this run sent them. */
  readonly #returned = new Set<string>();
  /** Entries that the journal has as done. */
  readonly #written = new Set<string>();
  readonly #tally: Tally;
  readonly #selected: ReadonlySet<string>;
  /** What is left of the plan: entry ids to message ids. */
  readonly #pending = new Map<string, string>();
  /** How many more entries this step may begin. */
  #quota = Number.POSITIVE_INFINITY;
  /** The ids of messages whose sends began. Set before they can come back. */
  readonly #begun = new Set<string>();
  /** Keys of what was sent or archived. Further copies are only removed. */
  readonly #performed = new Set<string>();
  /** What is being sent or archived, by key. */
  readonly #performing = new Map<string, Promise<Outcome>>();
  readonly #underWay = new Set<Promise<void>>();
  /** Since when the broker lets nothing be taken or removed. */
  #stalledSince: number | undefined;

  /** Throws `invalid` for wrong options. */
  constructor(parts: RunParts, options: RunOptions) {
    this.#parts = parts;
    const { internals, plan, by = null } = parts;
    checkRunOptions(`the run of a ${plan.action}`, options);
    this.#ramp = plan.ramp;
    this.#journal = new JournalWriter(options.journal, { run: plan.run, by }, () => internals.clock.now());
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
    this.#pacer = new Pacer(internals.clock, plan.rate ?? undefined);
    this.#tally = new Tally(plan);
    this.#selected = new Set(plan.entries.map(({ id }) => id));
    for (const { id, messageId } of plan.entries) this.#planned.set(messageId, id);
  }

  /** Begins the journal. Rejects as the journal does, before anything was changed. */
  async begin(): Promise<void> {
    this.#earlier = await this.#journal.earlier();
    const { rate, ramp } = this.#parts.plan;
    await this.#journal.note({ what: "begun", detail: JSON.stringify({ rate, ramp }) });
  }

  /** Runs the plan. Errors of the broker and the archive are in the result. */
  async execute(): Promise<RunResult> {
    for (const { id, messageId } of this.#parts.plan.entries) this.#pending.set(id, messageId);
    try {
      while (this.#pending.size > 0 && !this.#isOver) {
        if (this.#ramp !== null) this.#quota = this.#ramp.first * this.#ramp.factor ** this.#tally.step;
        this.#tally.step++;
        await this.#step();
      }
    } catch (cause) {
      const text = "the run failed; see the cause";
      this.#tally.stop("error", isMessagingError(cause) ? cause : new MessagingError("refused", text, { cause }));
    }
    if (this.#signal?.aborted) this.#tally.stop("cancelled");
    await this.#write(this.#journal.note({ what: "ended", detail: this.#tally.stopped ?? null }));
    return this.#tally.result();
  }

  get #isOver(): boolean {
    return this.#tally.stopped !== undefined || this.#signal?.aborted === true;
  }

  /** Runs one step with a new holder: it takes entries that earlier steps skipped. */
  async #step(): Promise<void> {
    const { internals, source } = this.#parts;
    const letter = (message: IncomingMessage): DeadLetter => new DeadLetter(message, source.name);
    const doneBefore = this.#tally.done;
    const holder = await Holder.open(internals, source.deadLetters, {
      wanted: (message) => this.#isWanted(letter(message)),
      arrived: (message) => this.#watch(letter(message)),
    });
    try {
      await this.#work(holder);
      await this.#finished(holder);
      if (this.#ramp !== null && this.#tally.done > doneBefore && !this.#isOver)
        await this.#observe(holder, this.#ramp);
    } finally {
      await this.#finished(holder);
      await holder.close();
    }
  }

  /** Waits for all work in progress. A stopped run does not wait for what the broker refuses. */
  async #finished(holder: Holder): Promise<void> {
    const endMs = Math.min(END_MS, this.#parts.patienceMs);
    while (this.#underWay.size > 0 && !(this.#isOver && this.#stalledMs(holder) >= endMs)) {
      await this.#someFinished(holder);
    }
  }

  /** Waits for some of the work in progress. Stops a run that the broker blocks. */
  async #someFinished(holder: Holder): Promise<void> {
    const { internals, patienceMs } = this.#parts;
    await within(internals.clock, POLL_MS, Promise.race(this.#underWay));
    if (!this.#isOver && this.#stalledMs(holder) >= patienceMs) this.#tally.stop("error", holder.stalled);
  }

  /** For how long the broker has blocked the run; -1 if it does not. */
  #stalledMs({ stalled }: Holder): number {
    const now = this.#parts.internals.clock.monotonic();
    this.#stalledSince = stalled === undefined ? undefined : (this.#stalledSince ?? now);
    return this.#stalledSince === undefined ? -1 : now - this.#stalledSince;
  }

  #isWanted(letter: DeadLetter): boolean {
    this.#watch(letter);
    // This run sent it, and it failed again: it is not sent twice.
    if (letter.replayRun === this.#parts.plan.run) return false;
    if (this.#performed.has(this.#parts.action.copyKey(letter))) return this.#selected.has(letter.id);
    return this.#quota > 0 && this.#pending.has(letter.id);
  }

  /** Records what came back, and stops the run if the ramp does not tolerate it. */
  #watch(letter: DeadLetter): void {
    const id = letter.editedFrom ?? letter.message.id;
    const planned = this.#planned.get(id);
    if (planned !== undefined && !this.#selected.has(letter.id)) this.#again.set(id, letter.id);
    if (letter.replayRun !== this.#parts.plan.run) return;
    this.#returned.add(id);
    if (!this.#tally.addReturn(letter, this.#isBegun(id))) return;
    if (!this.#earlier.cameBack.has(letter.id)) {
      const line = {
        what: "came-back",
        id: planned ?? null,
        messageId: id,
        group: letter.group,
        detail: letter.id,
      } as const;
      void this.#write(this.#journal.note(line));
    }
    if (this.#ramp !== null && this.#tally.cameBack > this.#ramp.tolerate) this.#tally.stop("failed-again");
  }

  /** Returns of messages that an earlier part sent do not count against this part. */
  #isBegun(id: string): boolean {
    return this.#begun.has(id) || this.#parts.action.begun?.has(id) === true;
  }

  /** A journal that fails ends the run. */
  async #write(written: Promise<void>): Promise<void> {
    try {
      await written;
    } catch (cause) {
      const text = "the journal could not store what became of a message; see the cause";
      this.#tally.stop("error", isMessagingError(cause) ? cause : new MessagingError("refused", text, { cause }));
    }
  }

  async #work(holder: Holder): Promise<void> {
    const { internals, source, patienceMs } = this.#parts;
    const drain = new DrainDetection(internals, source.deadLetters, holder, patienceMs);
    const remaining = new Remaining(internals, source, patienceMs, this.#signal);
    while (this.#pending.size > 0 && this.#quota > 0 && !this.#isOver) {
      const batch = await holder.take(remaining.waitMs ?? drain.waitMs, this.#signal);
      if (batch.length > 0) {
        drain.restart();
        remaining.restart();
        await this.#begin(holder, batch);
      } else if (this.#underWay.size > 0) {
        await this.#someFinished(holder);
      } else if (!this.#isOver && (await this.#nothingComes(drain, remaining))) {
        return;
      }
    }
  }

  /** Begins the wanted entries of a batch. The others stay. */
  async #begin(holder: Holder, batch: readonly Taken[]): Promise<void> {
    const { action, source } = this.#parts;
    let gathered: Work[] = [];
    const begin = async (): Promise<void> => {
      const work = gathered;
      gathered = [];
      if (work.length === 0) return;
      const under = this.#do(holder, work).finally(() => this.#underWay.delete(under));
      this.#underWay.add(under);
      while (this.#underWay.size >= action.concurrency) await Promise.race(this.#underWay);
    };
    for (const taken of batch) {
      const letter = new DeadLetter(taken.message, source.name);
      if (this.#isOver || !this.#isWanted(letter)) {
        holder.keep(taken);
        continue;
      }
      await this.#pacer.pass(this.#signal);
      // Another run may have it by now. Otherwise it is delivered again.
      if (!holder.has(taken)) continue;
      if (this.#isOver) {
        holder.keep(taken);
        continue;
      }
      this.#quota--;
      this.#begun.add(letter.message.id);
      gathered.push({ taken, letter });
      if (gathered.length >= action.batch) await begin();
    }
    await begin();
  }

  /** Sends or archives each, once for all copies of a message, and removes it. */
  async #do(holder: Holder, work: readonly Work[]): Promise<void> {
    const outcomes = await this.#perform(work);
    await Promise.all(work.map((each, index) => this.#finish(holder, each, outcomes[index] as Outcome)));
    this.#reportProgress();
  }

  #perform(work: readonly Work[]): Promise<readonly Outcome[]> {
    const { action } = this.#parts;
    const first = new Map<string, DeadLetter>();
    for (const { letter } of work) {
      const key = action.copyKey(letter);
      if (!this.#performed.has(key) && !this.#performing.has(key) && !first.has(key)) first.set(key, letter);
    }
    if (first.size > 0) {
      const performed = action.perform([...first.values()]);
      for (const [index, key] of [...first.keys()].entries()) {
        const result = performed.then((outcomes) => {
          const outcome = outcomes[index] as Outcome;
          this.#performing.delete(key);
          if (outcome.kind === "done") this.#performed.add(key);
          return outcome;
        });
        this.#performing.set(key, result);
      }
    }
    return Promise.all(work.map(({ letter }) => this.#performing.get(action.copyKey(letter)) ?? DONE));
  }

  async #finish(holder: Holder, { taken, letter }: Work, outcome: Outcome): Promise<void> {
    const tally = this.#tally;
    const { plan } = this.#parts;
    if (outcome.kind === "done") {
      if (this.#pending.has(letter.id) && !this.#written.has(letter.id)) {
        this.#written.add(letter.id);
        const what = plan.action === "discard" ? "discarded" : outcome.sent === undefined ? "replayed" : "edited";
        // It is sent or archived: even if the journal fails, it must not be sent again.
        await this.#write(this.#journal.about(letter, what, outcome.sent ?? null));
      }
      // A lost delivery comes again, and is only removed then.
      if (!(await holder.remove(taken))) return;
      if (this.#pending.delete(letter.id)) tally.done++;
      if (outcome.sent !== undefined) tally.edit(letter, outcome.sent);
      return;
    }
    if (this.#pending.delete(letter.id)) {
      if (outcome.kind === "left") tally.left++;
      else tally.failure(letter, outcome.error);
      const what = outcome.kind === "left" ? "left" : "failed";
      await this.#write(this.#journal.about(letter, what, outcome.kind === "left" ? null : outcome.error.message));
    }
    holder.keep(taken);
    if (outcome.kind === "failed" && endsRun(outcome.error)) tally.stop("error", outcome.error);
  }

  #reportProgress(): void {
    observe(this.#onProgress, this.#tally.progress());
  }

  /** Whether this step is over. */
  async #nothingComes(drain: DrainDetection, remaining: Remaining): Promise<boolean> {
    if (remaining.canBrowse) {
      const end = await remaining.scan(this.#pending.keys(), (id) => this.#miss(id, "removed"));
      if (end === "held") this.#tally.stop("held");
      return end === "held";
    }
    const end = await drain.check(true);
    if (end === "others") this.#tally.stop("held");
    if (end === "no" || end === "others") return false;
    const why = end === "all" && drain.elsewhere === 0 ? "removed" : "unknown";
    for (const id of [...this.#pending.keys()]) this.#miss(id, why);
    return true;
  }

  /** Counts a missing entry. `otherwise` is the reason if no better one is known. */
  #miss(id: string, otherwise: MissingReason): void {
    const messageId = this.#pending.get(id) ?? "";
    this.#pending.delete(id);
    const now = this.#again.get(messageId) ?? null;
    const isHandled = this.#earlier.done.has(id) || this.#returned.has(messageId);
    const why = isHandled ? "handled" : now !== null ? "dead-again" : otherwise;
    this.#tally.miss({ id, messageId, why, now });
    // The journal has the outcome already.
    if (this.#earlier.done.has(id)) return;
    const detail = now === null ? why : `${why}: ${now}`;
    void this.#write(this.#journal.note({ what: "missing", id, messageId, detail }));
  }

  /** Waits until what was sent is handled, then watches for messages that come back. */
  async #observe(holder: Holder, { observeMs, backlogMs }: Required<Ramp>): Promise<void> {
    const { internals, source } = this.#parts;
    const tally = this.#tally;
    const backlog = new Backlog(internals, source.address);
    let isUnreported = false;
    const isHandled = async (): Promise<boolean> => {
      const state = await backlog.check();
      isUnreported = state === "unreported";
      // A message that came back was handled.
      return state !== "waits" || tally.cameBack >= tally.done;
    };
    tally.waitsFor = "backlog";
    this.#reportProgress();
    if (!(await this.#watchUntil(holder, backlogMs, isHandled)) && !this.#isOver) tally.stop("unhandled");
    if (isUnreported) tally.unproven++;
    tally.waitsFor = "returns";
    this.#reportProgress();
    await this.#watchUntil(holder, observeMs, async () => false);
    tally.waitsFor = null;
    this.#reportProgress();
  }

  /** Takes and keeps arrivals until the time or the run is over, or `until` holds. Resolves with whether it held. */
  async #watchUntil(holder: Holder, forMs: number, until: () => Promise<boolean>): Promise<boolean> {
    const { clock } = this.#parts.internals;
    const end = clock.monotonic() + forMs;
    for (let left = forMs; left > 0 && !this.#isOver; left = end - clock.monotonic()) {
      if (await until()) return true;
      for (const taken of await holder.take(Math.min(left, POLL_MS), this.#signal)) holder.keep(taken);
    }
    return false;
  }
}
