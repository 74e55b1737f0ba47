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

/** Between two looks. */
const FIRST_LOOK_MS = 100;
const LONGEST_LOOK_MS = 2_000;
/** How often a broker that does not count exactly has to say that nothing is left. */
const LOOKS_WHERE_INEXACT = 3;
/** What another look would meet as well. */
const NEVER_TOLD: readonly MessagingErrorCode[] = ["unauthorized", "not-found", "unsupported"];

/**
 * Tells when everything is handled that stands at an address when it is made: nothing stands there any more, or as much has
 * gone since. That is known where messages go in the order in which they came, as far as the broker counts.
 */
class Backlog {
  readonly #internals: BrokerInternals;
  readonly #of: WorkAddress;
  #atFirst: number | undefined;
  #last = 0;
  #gone = 0;
  #empty = 0;
  #everyMs = FIRST_LOOK_MS;
  #nextLook: number;

  constructor(internals: BrokerInternals, of: WorkAddress) {
    this.#internals = internals;
    this.#of = of;
    this.#nextLook = internals.clock.monotonic();
  }

  /**
   * Looks, unless it did a moment ago. `untold`: the broker does not tell what consumers hold, or may not be asked: more is not
   * going to be known.
   */
  async look(): Promise<"waits" | "handled" | "untold"> {
    const { adapter, clock } = this.#internals;
    const now = clock.monotonic();
    if (now < this.#nextLook) return "waits";
    this.#nextLook = now + this.#everyMs;
    this.#everyMs = Math.min(this.#everyMs * 2, LONGEST_LOOK_MS);
    try {
      const { ready, unsettled = 0, consumers = 0, exact } = await adapter.depth(this.#of);
      const remaining = ready + unsettled;
      this.#atFirst ??= remaining;
      this.#gone += Math.max(this.#last - remaining, 0);
      this.#last = remaining;
      this.#empty = remaining === 0 ? this.#empty + 1 : 0;
      const passed = this.#atFirst > 0 && this.#gone >= this.#atFirst;
      if (!passed && this.#empty < (exact ? 1 : LOOKS_WHERE_INEXACT)) return "waits";
      return consumers > 0 ? "untold" : "handled";
    } catch (error) {
      if (!isMessagingError(error)) throw error;
      return NEVER_TOLD.includes(error.code) ? "untold" : "waits";
    }
  }
}

const MOST_LATE_MS = 20;

/** Lets so many pass per second, evenly. */
export class Pacer {
  readonly #clock: Clock;
  readonly #everyMs: number;
  #next: number | undefined;

  /** Without a rate everything passes at once. */
  constructor(clock: Clock, perSecond: number | undefined) {
    this.#clock = clock;
    this.#everyMs = perSecond === undefined ? 0 : 1_000 / perSecond;
  }

  /** Resolves when the next may pass, or the signal is aborted. Must not be called again before. */
  async pass(signal: AbortSignal | undefined): Promise<void> {
    if (this.#everyMs === 0) return;
    const now = this.#clock.monotonic();
    // A timer that fires late is made up for, what was not used while there was nothing to do is not.
    const at = Math.max(this.#next ?? now, now - MOST_LATE_MS);
    this.#next = at + this.#everyMs;
    await pause(this.#clock, at - now, signal);
  }
}

/** What a run works with. */
interface RunParts {
  readonly internals: BrokerInternals;
  readonly source: Source;
  readonly plan: Plan;
  readonly action: Action;
  /** Who carries it out. */
  readonly by: string | undefined;
  /** How long to wait for what others hold, in milliseconds. */
  readonly patienceMs: number;
}

interface Work {
  readonly taken: Taken;
  readonly letter: DeadLetter;
}

/** How long to watch at a time. */
const GLANCE_MS = 250;
/** How long a run that is over waits for what the broker refuses to remove. */
const END_MS = 5_000;

/**
 * Does what a plan says: takes each entry into its own hands, so that nobody else has it, makes it safe elsewhere, and
 * removes it then. A crash in between leaves the entry where it is, to be done again under the same id.
 */
export class Run {
  readonly #parts: RunParts;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: RunOptions["onProgress"];
  readonly #ramp: Required<Ramp> | null;
  readonly #pacer: Pacer;
  readonly #journal: JournalWriter;
  /** What the journal says of earlier parts of this run. */
  #earlier: Earlier = { done: new Set(), cameBack: new Set() };
  /** The entries of the plan by their messages. */
  readonly #planned = new Map<string, string>();
  /** What stands of messages of the plan under another entry id. */
  readonly #again = new Map<string, string>();
  /** The entries that were written into the journal as done. */
  readonly #written = new Set<string>();
  readonly #tally: Tally;
  readonly #selected: ReadonlySet<string>;
  /** What is left of the plan: the ids of entries, and of their messages. */
  readonly #pending = new Map<string, string>();
  /** How many more may be begun in this step. */
  #quota = Number.POSITIVE_INFINITY;
  /** The ids of messages that were begun with: known before they can come back. */
  readonly #begun = new Set<string>();
  /** What is safe elsewhere, by the action's sameness: further copies are only removed. */
  readonly #safe = new Set<string>();
  /** What is being made safe. */
  readonly #making = new Map<string, Promise<Outcome>>();
  readonly #underWay = new Set<Promise<void>>();
  /** Since when the broker says that nothing can be taken or removed. */
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

  /** Begins the journal. Rejects as that does; nothing was touched then. */
  async begin(): Promise<void> {
    this.#earlier = await this.#journal.earlier();
    await this.#journal.note({ what: "begun" });
  }

  /** Never rejects for what the broker or the archive does: that is in the result. */
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

  /** With a holder of its own: what an earlier step passed over is wanted now. */
  async #step(): Promise<void> {
    const { internals, source } = this.#parts;
    const letter = (message: IncomingMessage): DeadLetter => new DeadLetter(message, source.name);
    const doneBefore = this.#tally.done;
    const holder = await Holder.open(internals, source.deadLetters, {
      wanted: (message) => this.#isWanted(letter(message)),
      seen: (message) => this.#watch(letter(message)),
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

  /** Resolves when nothing is under way, or, of a run that is over, only what the broker refuses. */
  async #finished(holder: Holder): Promise<void> {
    const endMs = Math.min(END_MS, this.#parts.patienceMs);
    while (this.#underWay.size > 0 && !(this.#isOver && this.#stalledMs(holder) >= endMs)) {
      await this.#someFinished(holder);
    }
  }

  /** Waits for some of what is under way, and stops a run that the broker lets do nothing. */
  async #someFinished(holder: Holder): Promise<void> {
    const { internals, patienceMs } = this.#parts;
    await within(internals.clock, GLANCE_MS, Promise.race(this.#underWay));
    if (!this.#isOver && this.#stalledMs(holder) >= patienceMs) this.#tally.stop("error", holder.stalled);
  }

  /** For how long the broker has said that it does nothing; -1 if it does. */
  #stalledMs({ stalled }: Holder): number {
    const now = this.#parts.internals.clock.monotonic();
    this.#stalledSince = stalled === undefined ? undefined : (this.#stalledSince ?? now);
    return this.#stalledSince === undefined ? -1 : now - this.#stalledSince;
  }

  #isWanted(letter: DeadLetter): boolean {
    this.#watch(letter);
    // It was sent back by this run, and failed again: not once more.
    if (letter.replayRun === this.#parts.plan.run) return false;
    if (this.#safe.has(this.#parts.action.sameness(letter))) return this.#selected.has(letter.id);
    return this.#quota > 0 && this.#pending.has(letter.id);
  }

  /** Notes what came back, and stops a run that is to look out for it. */
  #watch(letter: DeadLetter): void {
    const id = letter.editedFrom ?? letter.message.id;
    const planned = this.#planned.get(id);
    if (planned !== undefined && !this.#selected.has(letter.id)) this.#again.set(id, letter.id);
    if (letter.replayRun !== this.#parts.plan.run) return;
    if (!this.#tally.sawAgain(letter, this.#isBegun(id))) return;
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

  /** What came back to an earlier part of the run, which was resumed since, says nothing of what is sent now. */
  #isBegun(id: string): boolean {
    return this.#begun.has(id) || this.#parts.action.begun?.has(id) === true;
  }

  /** A journal that takes no more ends the run. */
  async #write(written: Promise<void>): Promise<void> {
    try {
      await written;
    } catch (cause) {
      const text = "the journal does not take what became of a message; see the cause";
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
        drain.disturbed();
        remaining.disturbed();
        await this.#begin(holder, batch);
      } else if (this.#underWay.size > 0) {
        await this.#someFinished(holder);
      } else if (!this.#isOver && (await this.#nothingComes(drain, remaining))) {
        return;
      }
    }
  }

  /** Begins with what is wanted of a batch; the rest stays. */
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
      // One that was lost while it waited may be with another run by now; else it comes again.
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

  /** Makes each safe elsewhere, once for all copies of a message, and removes it. */
  async #do(holder: Holder, work: readonly Work[]): Promise<void> {
    const outcomes = await this.#makeSafe(work);
    await Promise.all(work.map((each, index) => this.#finish(holder, each, outcomes[index] as Outcome)));
    this.#tell();
  }

  #makeSafe(work: readonly Work[]): Promise<readonly Outcome[]> {
    const { action } = this.#parts;
    const first = new Map<string, DeadLetter>();
    for (const { letter } of work) {
      const same = action.sameness(letter);
      if (!this.#safe.has(same) && !this.#making.has(same) && !first.has(same)) first.set(same, letter);
    }
    if (first.size > 0) {
      const performed = action.perform([...first.values()]);
      for (const [index, same] of [...first.keys()].entries()) {
        const made = performed.then((outcomes) => {
          const outcome = outcomes[index] as Outcome;
          this.#making.delete(same);
          if (outcome.kind === "done") this.#safe.add(same);
          return outcome;
        });
        this.#making.set(same, made);
      }
    }
    return Promise.all(work.map(({ letter }) => this.#making.get(action.sameness(letter)) ?? DONE));
  }

  async #finish(holder: Holder, { taken, letter }: Work, outcome: Outcome): Promise<void> {
    const tally = this.#tally;
    const { plan } = this.#parts;
    if (outcome.kind === "done") {
      if (this.#pending.has(letter.id) && !this.#written.has(letter.id)) {
        this.#written.add(letter.id);
        const what = plan.action === "discard" ? "discarded" : outcome.sent === undefined ? "replayed" : "edited";
        // It is safe elsewhere: whatever the journal does, it is not to be sent again.
        await this.#write(this.#journal.about(letter, what, outcome.sent ?? null));
      }
      // One that was lost meanwhile comes again, and is only removed then.
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

  #tell(): void {
    observe(this.#onProgress, this.#tally.progress());
  }

  /** Whether this step is at its end. */
  async #nothingComes(drain: DrainDetection, remaining: Remaining): Promise<boolean> {
    if (remaining.canLook) {
      const end = await remaining.look(this.#pending.keys(), (id) => this.#miss(id, "removed"));
      if (end === "held") this.#tally.stop("held");
      return end === "held";
    }
    const end = await drain.reached(true);
    if (end === "others") this.#tally.stop("held");
    if (end === "no" || end === "others") return false;
    const why = end === "all" && drain.elsewhere === 0 ? "removed" : "unknown";
    for (const id of [...this.#pending.keys()]) this.#miss(id, why);
    return true;
  }

  /** It is not there; `else` is why, if nothing better is known. */
  #miss(id: string, otherwise: MissingReason): void {
    const messageId = this.#pending.get(id) ?? "";
    this.#pending.delete(id);
    const now = this.#again.get(messageId) ?? null;
    const why = now !== null ? "dead-again" : this.#earlier.done.has(id) ? "handled" : otherwise;
    this.#tally.miss({ id, messageId, why, now });
    // The journal has it already as what it is.
    if (this.#earlier.done.has(id)) return;
    const detail = now === null ? why : `${why}: ${now}`;
    void this.#write(this.#journal.note({ what: "missing", id, messageId, detail }));
  }

  /** Waits until what was sent is handled, and watches then for what comes back. */
  async #observe(holder: Holder, { observeMs, backlogMs }: Required<Ramp>): Promise<void> {
    const { internals, source } = this.#parts;
    const tally = this.#tally;
    const backlog = new Backlog(internals, source.address);
    let isUntold = false;
    const isHandled = async (): Promise<boolean> => {
      const told = await backlog.look();
      isUntold = told === "untold";
      // Whatever came back was handled.
      return told !== "waits" || tally.cameBack >= tally.done;
    };
    tally.waitsFor = "backlog";
    this.#tell();
    if (!(await this.#glances(holder, backlogMs, isHandled)) && !this.#isOver) tally.stop("unhandled");
    if (isUntold) tally.unproven++;
    tally.waitsFor = "returns";
    this.#tell();
    await this.#glances(holder, observeMs, async () => false);
    tally.waitsFor = null;
    this.#tell();
  }

  /** Looks at what comes, until the time is over, the run is, or something holds. Resolves with whether that held. */
  async #glances(holder: Holder, forMs: number, until: () => Promise<boolean>): Promise<boolean> {
    const { clock } = this.#parts.internals;
    const end = clock.monotonic() + forMs;
    for (let left = forMs; left > 0 && !this.#isOver; left = end - clock.monotonic()) {
      if (await until()) return true;
      for (const taken of await holder.take(Math.min(left, GLANCE_MS), this.#signal)) holder.keep(taken);
    }
    return false;
  }
}
