import type { QuarantineLog } from "../adapter.ts";
import type { Timer } from "../clock.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { copyRefusal } from "./copies.ts";
import { copyId, NoteReader, type StartNote, writtenNote } from "./crash-notes.ts";
import type { InFlightDelivery } from "./in-flight.ts";

/** How often a start note is repeated within the silence after which its writer counts as crashed. */
const REPEATS = 4;
/** How often the log is read within that silence, while a delivery waits for it. */
const READS = 6;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
/** The most failures in a row before handlers start without the log: a broken log must not stop the messages. */
const MOST_TRIES = 4;
/** How long an unconfirmed start note keeps the place of a handler. */
const LONGEST_START_MS = 1_000;
/** The same for a message that runs alone: others start in its place, and it has to wait for their end. */
const LONGEST_ALONE_START_MS = 10_000;
/** A message is quarantined when this many attempts would be left if each redelivery had been one. */
const BEFORE_LAST = 3;
/**
 * How many consumers have to crash while they run only this message. One is not enough: another consumer of the process
 * may have caused the crash, or an operator killed the process.
 */
const DEADLY_ALONE = 2;
const NO_CRASHES = { crashes: 0, alone: 0 };

/** A delivery in quarantine, on its way to its handler. */
interface Stay {
  /**
   * - `checking`: the log is read for crashes;
   * - `cleared`: it waits for its turn, or to be alone;
   * - `noting`: its turn has come, and its start note is being written;
   * - `running`.
   */
  step: "checking" | "cleared" | "noting" | "running";
  /** Whether it has the place of a handler. */
  isStarting: boolean;
  /** The start note, from the moment at which it may be in the log. */
  note: StartNote | undefined;
}

/** A start note whose end is not confirmed yet. */
interface Ending {
  /** For the next try; undefined while one is under way. */
  timer: Timer | undefined;
  hasFailed: boolean;
}

/**
 * What the quarantine decides for a delivery:
 * - `cleared`: no crashes keep it from starting: it waits for its turn;
 * - `start`: its start note is confirmed: it starts in the place that it has;
 * - `start-if-free`: the same, but it has lost its place and needs another;
 * - `condemned`: consumers crashed while they ran only this message.
 */
export type QuarantineDecision = "cleared" | "start" | "start-if-free" | "condemned";

/**
 * Finds the messages that crash their consumers, and blames no other message.
 *
 * A redelivery is no proof of a crash: a lost connection or a restart causes one for every unsettled message. So the
 * engine only quarantines a message that was redelivered often:
 *
 * 1. Before its handler starts, a start note is confirmed in a log that all consumers of the source share.
 * 2. The note is repeated while the handler runs, and ended when the attempt is over or the delivery is lost.
 * 3. A note without an end, by a consumer that has gone silent, is a crash.
 * 4. After one crash the message runs alone: without another handler of the consumer, and without another such message in
 *    any consumer of the broker.
 * 5. After two crashes alone it is condemned.
 *
 * Only quarantined messages wait for this, and, in order, their keys.
 */
export class Quarantine {
  readonly #context: ConsumerContext;
  readonly #log: QuarantineLog;
  readonly #decide: (delivery: InFlightDelivery, decision: QuarantineDecision) => void;
  readonly #changed: () => void;
  readonly #notes: NoteReader;
  readonly #from: number;
  readonly #stays = new Map<InFlightDelivery, Stay>();
  /** Deliveries that run alone, or wait to. */
  readonly #alone = new Set<InFlightDelivery>();
  readonly #unended = new Map<StartNote, Ending>();
  readonly #timers = new Set<Timer>();
  #nextRead: Timer | undefined;
  #sequence = 0;
  #starting = 0;
  /** How many other deliveries may start before the next one runs alone. */
  #turnsOfOthers = 0;
  #isReading = false;
  #isRepeating = false;
  /** Failed reads in a row; failed writes below. */
  #failures = 0;
  #writeFailures = 0;
  /** The problem with the log that was reported last. */
  #noticed: string | undefined;
  #isStopped = false;

  /** `decide` is called with each decision, `changed` when a reason to wait may be over. */
  constructor(
    context: ConsumerContext,
    decide: (delivery: InFlightDelivery, decision: QuarantineDecision) => void,
    changed: () => void,
  ) {
    this.#context = context;
    this.#decide = decide;
    this.#changed = changed;
    this.#log = context.adapter.quarantine(context.source);
    this.#notes = new NoteReader(context.consumerId, context.silenceMs);
    this.#from = Math.max(context.retry.attempts - BEFORE_LAST, 1);
  }

  /** Begins again after {@link Quarantine.stop}. */
  start(): void {
    this.#isStopped = false;
    this.#context.exclusiveTurn.join(this, this.#changed);
    this.retry();
  }

  /** Writes failed ends again now, because the connection is back. */
  retry(): void {
    this.#writeFailures = 0;
    for (const [note, { timer }] of [...this.#unended]) {
      if (timer === undefined) continue;
      this.#cancel(timer);
      this.#end(note, 1);
    }
  }

  /** Keeps a delivery whose turn it is, if it has to wait here, and returns whether it does. */
  holds(delivery: InFlightDelivery): boolean {
    if (this.#turnsOfOthers > 0) this.#turnsOfOthers--;
    const stay = this.#stays.get(delivery);
    if (stay !== undefined) return this.#holdsBack(delivery, stay);
    const { redeliveries, unreadable, unreadHeaders } = delivery.incoming;
    // No handler starts on it.
    if (unreadable !== undefined || unreadHeaders !== undefined || redeliveries < this.#from) return false;
    const entered: Stay = { step: "checking", isStarting: false, note: undefined };
    this.#stays.set(delivery, entered);
    if (delivery.crashes !== undefined) {
      if (!delivery.mustBeAlone) return this.#holdsBack(delivery, entered);
      this.#clear(delivery, entered);
      return true;
    }
    delivery.state = "quarantined";
    this.#read();
    return true;
  }

  /** Writes its start note first. While the log takes nothing, it starts without one. */
  #holdsBack(delivery: InFlightDelivery, stay: Stay): boolean {
    if (this.#isWritable) {
      this.#writeNote(delivery, stay);
      return true;
    }
    stay.step = "running";
    return false;
  }

  get #isWritable(): boolean {
    return this.#writeFailures < MOST_TRIES;
  }

  /** How many are about to start. Each has the place of a handler. */
  get starting(): number {
    return this.#starting;
  }

  /**
   * Whether nothing else may start: a delivery has to run alone, or just did and would be blamed for the next one. False
   * while the log does not answer: only that delivery waits then.
   */
  get isReserved(): boolean {
    let isEnding = false;
    for (const [{ alone }, { hasFailed }] of this.#isWritable ? this.#unended : []) {
      if (hasFailed) return false;
      isEnding ||= alone;
    }
    return isEnding || this.#isAwaited;
  }

  /** Whether one runs alone, or its turn has come. Others have turns between two of them, which may be many and slow. */
  get #isAwaited(): boolean {
    const [first] = this.#alone;
    const stay = first && this.#stays.get(first);
    if (stay === undefined || !this.#context.exclusiveTurn.isFree(this)) return false;
    if (stay.step === "noting") return stay.isStarting;
    return stay.step === "running" || this.#turnsOfOthers === 0;
  }

  /**
   * Takes the delivery that has to run alone, if its turn has come. Call it only while no handler runs. It waits until all
   * earlier notes are ended in the log; their messages would be blamed for its crash.
   */
  takeAlone(): InFlightDelivery | undefined {
    const { exclusiveTurn } = this.#context;
    const [delivery] = this.#alone;
    if (delivery === undefined || (this.#unended.size > 0 && this.#isWritable) || !exclusiveTurn.isFree(this))
      return undefined;
    if (this.#stays.get(delivery)?.step !== "cleared") return undefined;
    exclusiveTurn.take(this);
    this.#turnsOfOthers = 0;
    return delivery;
  }

  /** Takes back a start; the turn comes again. */
  putBack(delivery: InFlightDelivery): void {
    this.ended(delivery);
    delivery.state = "waiting";
  }

  /** Ends its stay and its note: it cannot crash this consumer any more. */
  ended(delivery: InFlightDelivery): void {
    const stay = this.#stays.get(delivery);
    if (stay === undefined) return;
    this.#stays.delete(delivery);
    this.#freePlace(stay);
    if (this.#alone.delete(delivery) && stay.step === "running") this.#turnsOfOthers = this.#context.concurrency;
    if (stay.note !== undefined) this.#end(stay.note, 1);
    this.#leaveExclusiveTurn();
  }

  /** Keeps the turn while a delivery here runs alone, or did and could still be blamed. */
  #leaveExclusiveTurn(): void {
    for (const delivery of this.#alone) {
      const stay = this.#stays.get(delivery);
      if (stay?.step === "running" || stay?.isStarting) return;
    }
    for (const [{ alone }, { hasFailed }] of this.#unended) if (alone && !hasFailed) return;
    this.#context.exclusiveTurn.leave(this);
  }

  /** Whether the end of every note is in the log. */
  get isSettled(): boolean {
    return this.#unended.size === 0;
  }

  /** Ends all tries. Failed ends are written at the next start. */
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

  // Reading the notes of other consumers.

  #read(): void {
    if (this.#isReading || this.#isStopped) return;
    if (this.#nextRead !== undefined) this.#cancel(this.#nextRead);
    this.#nextRead = undefined;
    const waiting = this.#checking();
    if (waiting.length === 0) {
      this.#notes.forget();
      return;
    }
    this.#isReading = true;
    const at = this.#context.clock.monotonic();
    this.#readLog().then(
      (records) => {
        this.#failures = 0;
        this.#noticed = undefined;
        this.#notes.learn(records, at);
        this.#judgeAll(waiting, this.#context.silenceMs / READS);
      },
      (cause: unknown) => {
        const isRefused = copyRefusal(cause).kind === "place";
        this.#failures = isRefused ? MOST_TRIES : Math.min(this.#failures + 1, MOST_TRIES);
        this.#notes.missed();
        if (this.#failures === MOST_TRIES) this.#notice("read", cause);
        this.#judgeAll(this.#failures < MOST_TRIES ? [] : this.#checking(), this.#pauseMs(this.#failures));
      },
    );
  }

  /** While it measures silence it writes a record first: if that fails, other consumers may be silent for the same reason. */
  async #readLog(): Promise<readonly string[]> {
    if (this.#notes.isWatching) await this.#write(JSON.stringify({ by: this.#context.consumerId, asks: true }));
    return this.#log.read();
  }

  /** Decides for the deliveries that were there when the read began, and reads again for others. */
  #judgeAll(waiting: readonly InFlightDelivery[], pauseMs: number): void {
    this.#isReading = false;
    if (this.#isStopped) return;
    for (const delivery of waiting) {
      const stay = this.#stays.get(delivery);
      if (stay?.step === "checking") this.#judge(delivery, stay);
    }
    const left = this.#checking();
    const isNew = (delivery: InFlightDelivery): boolean => !waiting.includes(delivery);
    if (this.#failures === 0 && left.some(isNew)) this.#read();
    else if (left.length === 0) this.#notes.forget();
    else this.#nextRead = this.#later(() => this.#read(), pauseMs);
  }

  #checking(): InFlightDelivery[] {
    return [...this.#stays].flatMap(([delivery, { step }]) => (step === "checking" ? [delivery] : []));
  }

  #judge(delivery: InFlightDelivery, stay: Stay): void {
    const found = this.#failures > 0 ? NO_CRASHES : this.#notes.crashes(copyId(delivery.incoming));
    if (found === "unclear") return;
    delivery.learnCrashes(found.crashes);
    if (found.alone >= DEADLY_ALONE) {
      this.#stays.delete(delivery);
      this.#decide(delivery, "condemned");
    } else this.#clear(delivery, stay);
  }

  #clear(delivery: InFlightDelivery, stay: Stay): void {
    stay.step = "cleared";
    delivery.state = "waiting";
    if (delivery.mustBeAlone) this.#alone.add(delivery);
    this.#decide(delivery, "cleared");
  }

  // Writing the notes of this consumer.

  #writeNote(delivery: InFlightDelivery, stay: Stay): void {
    stay.step = "noting";
    stay.isStarting = true;
    this.#starting++;
    delivery.state = "quarantined";
    stay.note ??= { by: this.#context.consumerId, of: copyId(delivery.incoming), alone: delivery.mustBeAlone };
    // A late end of an earlier note would count as the end of this one.
    for (const note of this.#unended.keys()) if (note.of === stay.note.of) this.#forget(note);
    const patience = this.#later(
      () => {
        this.#freePlace(stay);
        this.#changed();
      },
      stay.note.alone ? LONGEST_ALONE_START_MS : LONGEST_START_MS,
    );
    const isHere = (): boolean => this.#stays.get(delivery) === stay && !this.#isStopped;
    this.#append(stay.note, "started").then(
      () => {
        this.#cancel(patience);
        if (!isHere()) return;
        stay.step = "running";
        const hasPlace = stay.isStarting;
        this.#freePlace(stay);
        this.#repeatLater();
        this.#decide(delivery, hasPlace ? "start" : "start-if-free");
      },
      (cause: unknown) => {
        this.#cancel(patience);
        if (!isHere()) return;
        this.#freePlace(stay);
        this.#changed();
        if (!this.#isWritable) this.#notice("write to", cause);
        this.#later(
          () => {
            if (isHere()) this.#clear(delivery, stay);
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

  /** Counts failures in a row, so that not every message waits for a broken log. */
  async #write(record: string): Promise<void> {
    const before = this.#writeFailures;
    try {
      await this.#log.append(record);
      this.#writeFailures = 0;
    } catch (cause) {
      if (copyRefusal(cause).kind === "place") this.#writeFailures = MOST_TRIES;
      // Writes that fail together, by one broken connection, count once.
      else if (before === this.#writeFailures) this.#writeFailures = Math.min(before + 1, MOST_TRIES);
      throw cause;
    }
  }

  /** Repeats all running notes by one timer. A failed repetition is ignored; the next one follows. */
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

  /** Writes the end of a note until it is confirmed: without it this consumer looks crashed. */
  #end(note: StartNote, tries: number): void {
    const ending: Ending = { timer: undefined, hasFailed: tries > 1 };
    this.#unended.set(note, ending);
    this.#append(note, "over").then(
      () => this.#forget(note),
      (cause: unknown) => {
        if (this.#unended.get(note) !== ending) return;
        ending.hasFailed = true;
        if (!this.#isWritable) this.#notice("write to", cause);
        ending.timer = this.#later(() => this.#end(note, tries + 1), this.#pauseMs(tries));
        if (this.#isStopped) this.#clearTimers();
        this.#leaveExclusiveTurn();
        this.#changed();
      },
    );
  }

  #forget(note: StartNote): void {
    const timer = this.#unended.get(note)?.timer;
    if (timer !== undefined) this.#cancel(timer);
    this.#unended.delete(note);
    this.#leaveExclusiveTurn();
    this.#changed();
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

  /** Reports a problem once while it lasts. */
  #notice(what: string, cause: unknown): void {
    const { emit, sourceName } = this.#context;
    if (this.#noticed === what) return;
    this.#noticed = what;
    const error = new MessagingError(
      isMessagingError(cause) ? cause.code : "unreachable",
      `cannot ${what} the quarantine log of ${sourceName}: messages that were redelivered often are handled without it, and one that crashes its consumers is not found; check that the log exists and that this user may read and write it`,
      { cause },
    );
    emit({ type: "notice", error });
  }
}
