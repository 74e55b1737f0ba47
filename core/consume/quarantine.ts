import type { QuarantineLog } from "../adapter.ts";
import type { Timer } from "../clock.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { copyRefusal } from "./copies.ts";
import { copyId, NoteReader, type StartNote, writtenNote } from "./crash-notes.ts";
import type { InFlightDelivery } from "./in-flight.ts";

/** A consumer that runs such a message repeats its note so often within the time after which it is taken for dead. */
const REPEATS = 4;
/** The log is read again so often within that time, while somebody waits for it. */
const READS = 6;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
/** So often the log is tried before handlers start without it: a log that is out of order must not stop the messages. */
const MOST_TRIES = 4;
/** A note that takes longer to be confirmed does not keep the place of a handler for as long. */
const LONGEST_START_MS = 1_000;
/** What is to run alone keeps it for longer: others start in its place, and it has to wait for their end. */
const LONGEST_ALONE_START_MS = 10_000;
/** A message is quarantined when so many of its attempts would be left if each redelivery had been one. */
const BEFORE_LAST = 3;
/**
 * So many consumers have to crash while they run nothing but the message. One is not enough: another consumer of the same
 * process may run what crashed it, or somebody kills the process.
 */
const DEADLY_ALONE = 2;
const NO_CRASHES = { crashes: 0, alone: 0 };

/** Where a quarantined delivery is on its way to its handler. */
interface Stay {
  /**
   * `looking`: what is known of crashes is being read; `cleared`: it waits for its turn, or to be alone; `noting`: its turn has
   * come, and its start note is being written; `running`.
   */
  step: "looking" | "cleared" | "noting" | "running";
  /** Whether it has the place of a handler. */
  isStarting: boolean;
  /** The start note, from the moment on at which it may be in the log. */
  note: StartNote | undefined;
}

/** A note whose end is not confirmed yet. */
interface Ending {
  /** The next try; undefined while it is being said. */
  timer: Timer | undefined;
  hasFailed: boolean;
}

/** What a quarantine has done to a delivery. */
export interface QuarantineActions {
  /** Consumers crashed in no way that keeps it from starting: it waits for its turn. */
  cleared(held: InFlightDelivery): void;
  /** Its start note is confirmed: it starts now, in the place that it has, or if there is one for it. */
  admit(held: InFlightDelivery, hasPlace: boolean): void;
  /** Consumers crashed while they ran it, and nothing else that could be to blame. */
  condemn(held: InFlightDelivery): void;
  /** Something that was waited for is over. */
  changed(): void;
}

/**
 * Finds the messages that crash their consumers, and blames no other.
 *
 * A redelivery is no crash: brokers count one for each message that a lost connection or a restart gave back, whoever ran
 * it. So a message that was redelivered often is only quarantined: before its handler starts, a start note stands confirmed
 * in the log that all consumers of the source share. It is repeated while the handler runs, and ended when the attempt is
 * over or the delivery was lost. A note that is not ended, of a consumer that says nothing any more, is a crash. After one
 * crash the message runs with no other handler of the consumer beside it, and with no such message in another consumer of
 * the broker; after two crashes there it is condemned. Until then only those messages wait, and in order their keys; all
 * others go on.
 */
export class Quarantine {
  readonly #context: ConsumerContext;
  readonly #log: QuarantineLog;
  readonly #actions: QuarantineActions;
  readonly #notes: NoteReader;
  readonly #from: number;
  readonly #stays = new Map<InFlightDelivery, Stay>();
  /** Those that are to run, or do, with nothing beside them. */
  readonly #alone = new Set<InFlightDelivery>();
  readonly #unended = new Map<StartNote, Ending>();
  readonly #timers = new Set<Timer>();
  #nextRead: Timer | undefined;
  #sequence = 0;
  #starting = 0;
  /** So many of the others may start before the next runs alone. */
  #turnsOfOthers = 0;
  #isReading = false;
  #isRepeating = false;
  /** Of readings and of writings, in a row. */
  #failures = 0;
  #writeFailures = 0;
  /** Why the log cannot be used, as it was said last. */
  #told: string | undefined;
  #isStopped = false;

  constructor(context: ConsumerContext, actions: QuarantineActions) {
    this.#context = context;
    this.#log = context.adapter.quarantine(context.source);
    this.#actions = actions;
    this.#notes = new NoteReader(context.consumerId, context.silenceMs);
    this.#from = Math.max(context.retry.attempts - BEFORE_LAST, 1);
  }

  /** Begins again after {@link Quarantine.stop}. */
  start(): void {
    this.#isStopped = false;
    this.#context.exclusiveTurn.join(this, () => this.#actions.changed());
    this.retry();
  }

  /** Says now what could not be said: the connection is back. */
  retry(): void {
    this.#writeFailures = 0;
    for (const [note, { timer }] of [...this.#unended]) {
      if (timer === undefined) continue;
      this.#cancel(timer);
      this.#end(note, 1);
    }
  }

  /** Takes in a delivery whose turn it is and that has to wait here before it starts, and says whether it did. */
  holds(held: InFlightDelivery): boolean {
    if (this.#turnsOfOthers > 0) this.#turnsOfOthers--;
    const stay = this.#stays.get(held);
    if (stay !== undefined) return this.#holdsBack(held, stay);
    const { redeliveries, unreadable, unreadHeaders } = held.incoming;
    // No handler starts on it.
    if (unreadable !== undefined || unreadHeaders !== undefined || redeliveries < this.#from) return false;
    const entered: Stay = { step: "looking", isStarting: false, note: undefined };
    this.#stays.set(held, entered);
    if (held.crashes !== undefined) {
      if (!held.mustBeAlone) return this.#holdsBack(held, entered);
      this.#clear(held, entered);
      return true;
    }
    held.state = "quarantined";
    this.#read();
    return true;
  }

  /** Its turn has come. Where the log takes nothing it starts without a note. */
  #holdsBack(held: InFlightDelivery, stay: Stay): boolean {
    if (this.#isWritable) {
      this.#note(held, stay);
      return true;
    }
    stay.step = "running";
    return false;
  }

  get #isWritable(): boolean {
    return this.#writeFailures < MOST_TRIES;
  }

  /** How many are about to start: each has the place of a handler. */
  get starting(): number {
    return this.#starting;
  }

  /**
   * Whether nothing else may start, because one has to run with nothing beside it, or has just done so and would be blamed for
   * what the next one does. Not while the log does not answer: that one waits, and the others go on.
   */
  get isReserved(): boolean {
    let isEnding = false;
    for (const [{ alone }, { hasFailed }] of this.#isWritable ? this.#unended : []) {
      if (hasFailed) return false;
      isEnding ||= alone;
    }
    return isEnding || this.#isAwaited;
  }

  /** Those that have to run alone may be many, and run for long: between two of them others have their turns. */
  get #isAwaited(): boolean {
    const [first] = this.#alone;
    const stay = first && this.#stays.get(first);
    if (stay === undefined || !this.#context.exclusiveTurn.isFree(this)) return false;
    if (stay.step === "noting") return stay.isStarting;
    return stay.step === "running" || this.#turnsOfOthers === 0;
  }

  /**
   * The one that has to run alone, if its turn can come. To be asked for only while no handler runs. It waits until the notes
   * of those before it are over in the log, or they would be blamed for what it does.
   */
  takeAlone(): InFlightDelivery | undefined {
    const { exclusiveTurn } = this.#context;
    const [held] = this.#alone;
    if (held === undefined || (this.#unended.size > 0 && this.#isWritable) || !exclusiveTurn.isFree(this))
      return undefined;
    if (this.#stays.get(held)?.step !== "cleared") return undefined;
    exclusiveTurn.take(this);
    this.#turnsOfOthers = 0;
    return held;
  }

  /** It is not to start now after all; its turn comes again. */
  putBack(held: InFlightDelivery): void {
    this.ended(held);
    held.state = "waiting";
  }

  /** Its attempt is over, or it is not ours any more, or it leaves: from now on it cannot be what ends this consumer. */
  ended(held: InFlightDelivery): void {
    const stay = this.#stays.get(held);
    if (stay === undefined) return;
    this.#stays.delete(held);
    this.#freePlace(stay);
    if (this.#alone.delete(held) && stay.step === "running") this.#turnsOfOthers = this.#context.concurrency;
    if (stay.note !== undefined) this.#end(stay.note, 1);
    this.#leaveExclusiveTurn();
  }

  /** Unless one of ours runs in it, or did and would be blamed still. */
  #leaveExclusiveTurn(): void {
    for (const held of this.#alone) {
      const stay = this.#stays.get(held);
      if (stay?.step === "running" || stay?.isStarting) return;
    }
    for (const [{ alone }, { hasFailed }] of this.#unended) if (alone && !hasFailed) return;
    this.#context.exclusiveTurn.leave(this);
  }

  /** Whether the log was told the end of every note. */
  get isSettled(): boolean {
    return this.#unended.size === 0;
  }

  /** No further tries at anything; what could not be said is said at the next start. */
  stop(): void {
    this.#isStopped = true;
    this.#clearTimers();
    this.#nextRead = undefined;
    this.#isRepeating = false;
    this.#notes.forget();
    this.#context.exclusiveTurn.quit(this);
  }

  #clearTimers(): void {
    for (const timer of this.#timers) this.#context.clock.cancel(timer);
    this.#timers.clear();
  }

  // What others wrote.

  #read(): void {
    if (this.#isReading || this.#isStopped) return;
    if (this.#nextRead !== undefined) this.#cancel(this.#nextRead);
    this.#nextRead = undefined;
    const waiting = this.#looking();
    if (waiting.length === 0) {
      this.#notes.forget();
      return;
    }
    this.#isReading = true;
    const at = this.#context.clock.monotonic();
    this.#asked().then(
      (records) => {
        this.#failures = 0;
        this.#told = undefined;
        this.#notes.learn(records, at);
        this.#decideAll(waiting, this.#context.silenceMs / READS);
      },
      (cause: unknown) => {
        const isRefused = copyRefusal(cause).kind === "place";
        this.#failures = isRefused ? MOST_TRIES : Math.min(this.#failures + 1, MOST_TRIES);
        this.#notes.missed();
        if (this.#failures === MOST_TRIES) this.#tell("read", cause);
        this.#decideAll(this.#failures < MOST_TRIES ? [] : this.#looking(), this.#pauseMs(this.#failures));
      },
    );
  }

  /**
   * Where silence is measured, one record of our own goes first: what keeps us from writing, as an alarm of the broker does,
   * keeps others from it.
   */
  async #asked(): Promise<readonly string[]> {
    if (this.#notes.isWatching) await this.#write(JSON.stringify({ by: this.#context.consumerId, asks: true }));
    return this.#log.read();
  }

  /** Decides on those that were there when the reading began, and reads again if others are left. */
  #decideAll(waiting: readonly InFlightDelivery[], pauseMs: number): void {
    this.#isReading = false;
    if (this.#isStopped) return;
    for (const held of waiting) {
      const stay = this.#stays.get(held);
      if (stay?.step === "looking") this.#decide(held, stay);
    }
    const left = this.#looking();
    const isNew = (held: InFlightDelivery): boolean => !waiting.includes(held);
    if (this.#failures === 0 && left.some(isNew)) this.#read();
    else if (left.length === 0) this.#notes.forget();
    else this.#nextRead = this.#later(() => this.#read(), pauseMs);
  }

  #looking(): InFlightDelivery[] {
    return [...this.#stays].flatMap(([held, { step }]) => (step === "looking" ? [held] : []));
  }

  #decide(held: InFlightDelivery, stay: Stay): void {
    const found = this.#failures > 0 ? NO_CRASHES : this.#notes.crashes(copyId(held.incoming));
    if (found === "unclear") return;
    held.learnCrashes(found.crashes);
    if (found.alone >= DEADLY_ALONE) {
      this.#stays.delete(held);
      this.#actions.condemn(held);
    } else this.#clear(held, stay);
  }

  #clear(held: InFlightDelivery, stay: Stay): void {
    stay.step = "cleared";
    held.state = "waiting";
    if (held.mustBeAlone) this.#alone.add(held);
    this.#actions.cleared(held);
  }

  // What this consumer writes.

  #note(held: InFlightDelivery, stay: Stay): void {
    stay.step = "noting";
    stay.isStarting = true;
    this.#starting++;
    held.state = "quarantined";
    stay.note ??= { by: this.#context.consumerId, of: copyId(held.incoming), alone: held.mustBeAlone };
    // Its end, said from now on, would be taken for the end of this one.
    for (const note of this.#unended.keys()) if (note.of === stay.note.of) this.#forget(note);
    const patience = this.#later(
      () => {
        this.#freePlace(stay);
        this.#actions.changed();
      },
      stay.note.alone ? LONGEST_ALONE_START_MS : LONGEST_START_MS,
    );
    const isHere = (): boolean => this.#stays.get(held) === stay && !this.#isStopped;
    this.#append(stay.note, "started").then(
      () => {
        this.#cancel(patience);
        if (!isHere()) return;
        stay.step = "running";
        const hasPlace = stay.isStarting;
        this.#freePlace(stay);
        this.#repeatLater();
        this.#actions.admit(held, hasPlace);
      },
      (cause: unknown) => {
        this.#cancel(patience);
        if (!isHere()) return;
        this.#freePlace(stay);
        this.#actions.changed();
        if (!this.#isWritable) this.#tell("write to", cause);
        this.#later(
          () => {
            if (isHere()) this.#clear(held, stay);
          },
          this.#isWritable ? this.#pauseMs(this.#writeFailures) : 0,
        );
      },
    );
  }

  #freePlace(stay: Stay): void {
    if (!stay.isStarting) return;
    this.#starting--;
    stay.isStarting = false;
    this.#leaveExclusiveTurn();
  }

  #append(note: StartNote, state: "started" | "running" | "over"): Promise<void> {
    return this.#write(writtenNote(note, state, ++this.#sequence));
  }

  /** Counts failures in a row, so that not each message finds out anew that the log takes nothing. */
  async #write(record: string): Promise<void> {
    const before = this.#writeFailures;
    try {
      await this.#log.append(record);
      this.#writeFailures = 0;
    } catch (cause) {
      if (copyRefusal(cause).kind === "place") this.#writeFailures = MOST_TRIES;
      // Those that failed together count once: a connection that breaks fails all of them.
      else if (before === this.#writeFailures) this.#writeFailures = Math.min(before + 1, MOST_TRIES);
      throw cause;
    }
  }

  /** One timer for all. A repetition that fails is made good by the next. */
  #repeatLater(): void {
    if (this.#isRepeating) return;
    this.#isRepeating = true;
    this.#later(() => {
      this.#isRepeating = false;
      let count = 0;
      for (const { step, note } of this.#stays.values()) {
        if (note === undefined || step !== "running") continue;
        count++;
        this.#append(note, "running").catch(() => {});
      }
      if (count > 0) this.#repeatLater();
    }, this.#context.silenceMs / REPEATS);
  }

  /** Until it is said this consumer looks like one that crashed, so it is tried again while the connection is away. */
  #end(note: StartNote, tries: number): void {
    const ending: Ending = { timer: undefined, hasFailed: tries > 1 };
    this.#unended.set(note, ending);
    this.#append(note, "over").then(
      () => this.#forget(note),
      (cause: unknown) => {
        if (this.#unended.get(note) !== ending) return;
        ending.hasFailed = true;
        if (!this.#isWritable) this.#tell("write to", cause);
        ending.timer = this.#later(() => this.#end(note, tries + 1), this.#pauseMs(tries));
        if (this.#isStopped) this.#clearTimers();
        this.#leaveExclusiveTurn();
        this.#actions.changed();
      },
    );
  }

  /** Nothing more is to be said of it. */
  #forget(note: StartNote): void {
    const timer = this.#unended.get(note)?.timer;
    if (timer !== undefined) this.#cancel(timer);
    this.#unended.delete(note);
    this.#leaveExclusiveTurn();
    this.#actions.changed();
  }

  #later(run: () => void, ms: number): Timer {
    const { clock } = this.#context;
    const timer = clock.schedule(() => {
      this.#timers.delete(timer);
      run();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  #cancel(timer: Timer): void {
    this.#context.clock.cancel(timer);
    this.#timers.delete(timer);
  }

  #pauseMs(tries: number): number {
    return Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS) * (1 + this.#context.random.fraction());
  }

  /** Once for as long as it lasts. */
  #tell(what: string, cause: unknown): void {
    const { emit, sourceName } = this.#context;
    if (this.#told === what) return;
    this.#told = what;
    const error = new MessagingError(
      isMessagingError(cause) ? cause.code : "unreachable",
      `cannot ${what} the quarantine log of ${sourceName}: messages that were redelivered often are handled without it, and one that crashes its consumers is not found; check that the log exists and that this user may read and write it`,
      { cause },
    );
    emit({ type: "notice", error });
  }
}
