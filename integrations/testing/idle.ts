import { addressName, describeAddress } from "../../core/address.ts";
import type { Broker, ConsumerStatus } from "../../core/broker.ts";
import { MessagingError } from "../../core/errors.ts";
import { workOf } from "./addresses.ts";
import type { Recording } from "./recording-adapter.ts";
import { pause, realNow, type TestClock, turn, VirtualClock } from "./test-clock.ts";

/** The options of {@link TestKit.idle}. */
export interface IdleOptions {
  /**
   * Only what falls due within so many milliseconds of the kit's clock is waited for; later retries and delayed messages
   * are left where they are. 0: only what can be done now. Default: no limit.
   */
  readonly dueWithinMs?: number;
  /**
   * What else has to hold, for work that no broker knows of yet, such as the rows of an outbox. Asked when nothing else is
   * left to do; while it does not hold, time is moved in process, and otherwise it is asked again. What it throws, `idle`
   * rejects with. Default: nothing.
   */
  readonly until?: () => boolean | Promise<boolean>;
  /** How long to wait, in milliseconds of real time. Default: the kit's `idleTimeoutMs`. */
  readonly timeoutMs?: number;
}

/** What is looked at to tell whether a kit is idle. */
interface IdleSubject {
  readonly brokers: readonly Broker[];
  readonly recording: Recording;
  readonly clock: TestClock;
}

const MOST_LINES = 10;
/** So many looks in a row have to find nothing new before it is believed that nothing moves. */
const LOOKS = 3;
/** From so many looks on the processor is left to others. */
const PATIENT_AFTER = 50;
const LONGEST_PAUSE_MS = 20;
/** A machine that was busy elsewhere is given some looks more; an application that never rests uses them up at once. */
const MOST_LATE_LOOKS = 100;

/** Waits until a kit is idle; see {@link TestKit.idle}. */
export async function untilIdle(subject: IdleSubject, options: Required<IdleOptions>): Promise<void> {
  const { clock, recording } = subject;
  const { timeoutMs } = options;
  const until = clock.monotonic() + options.dueWithinMs;
  const deadline = realNow() + timeoutMs;
  let version = -1;
  let still = 0;
  let late = 0;
  for (;;) {
    await (still < PATIENT_AFTER ? turn() : pause(Math.min(still - PATIENT_AFTER, LONGEST_PAUSE_MS)));
    still = recording.ledger.version === version ? still + 1 : 0;
    version = recording.ledger.version;
    const { done, resting, handling, sources } = look(subject, until);
    if (still >= LOOKS) {
      const moves = clock instanceof VirtualClock && !handling && (!done || resting) && clock.step(until);
      // With all handlers at rest and nothing more to happen by then, what is left is later.
      const later = clock instanceof VirtualClock && !handling && until !== Number.POSITIVE_INFINITY;
      if (moves) {
        still = 0;
      } else if (done || later) {
        const left = await standing(sources, subject);
        if (left.length > 0) await pause(LONGEST_PAUSE_MS);
        else if (recording.ledger.version === version) {
          if (await options.until()) return;
          if (!(clock instanceof VirtualClock && clock.step(until))) await pause(LONGEST_PAUSE_MS);
        }
      }
    }
    if (realNow() >= deadline && (still >= LOOKS || late++ >= MOST_LATE_LOOKS)) {
      throw await timedOut(subject, timeoutMs, until);
    }
  }
}

/** What a kit has to do. */
interface Work {
  /** Whether there is nothing. */
  readonly done: boolean;
  /** Whether something rests in a consumer until its next attempt. */
  readonly resting: boolean;
  /** Whether a handler runs. */
  readonly handling: boolean;
  /** What is consumed from. */
  readonly sources: ReadonlySet<string>;
}

function look({ brokers, recording }: IdleSubject, until: number): Work {
  const sources = new Set<string>();
  let busy = false;
  let handling = false;
  let resting = false;
  for (const broker of brokers) {
    const { state, publishing, consumers } = broker.status();
    if (state === "starting" || state === "stopping" || publishing.messages > 0 || publishing.waiting > 0) busy = true;
    for (const consumer of consumers) {
      if (consumer.running > 0) handling = true;
      if (consumer.waiting > 0 && consumer.state !== "paused") resting = true;
      if (state === "started" && isBusy(consumer, until !== Number.POSITIVE_INFINITY)) busy = true;
      if (takes(consumer)) sources.add(consumer.source);
    }
  }
  const waits = recording.ledger.waiting().some(({ work, dueAt }) => dueAt <= until && sources.has(addressName(work)));
  return { done: !busy && !handling && !waits, resting, handling, sources };
}

/** Whether a consumer takes messages, or will: a paused one may not for ever. */
function takes({ state }: ConsumerStatus): boolean {
  return state === "running" || state === "stalled";
}

function isBusy(consumer: ConsumerStatus, limited: boolean): boolean {
  // With all handlers free, what waits in a consumer rests until its next attempt.
  const resting = limited || consumer.state === "paused" ? consumer.waiting : 0;
  return consumer.state === "new" || consumer.unsettled > resting;
}

/** What others sent is known to the broker alone, and so is what it redelivers. */
async function standing(sources: ReadonlySet<string>, { recording }: IdleSubject): Promise<readonly string[]> {
  const consumed = [...recording.consumed].filter(({ work }) => sources.has(addressName(work)));
  const lines = consumed.map(async ({ work, depth }) => {
    try {
      const { ready } = await depth();
      return ready > 0 ? [`ready to be delivered on ${describeAddress(work)}: ${ready}`] : [];
    } catch {
      return [`the depth of ${describeAddress(work)} is not known`];
    }
  });
  return (await Promise.all(lines)).flat();
}

async function timedOut(subject: IdleSubject, timeoutMs: number, until: number): Promise<MessagingError> {
  const { sources, handling } = look(subject, until);
  const lines = [...held(subject), ...waiting(subject, sources, until), ...engines(subject)];
  if (lines.length === 0) lines.push(...(await standing(sources, subject)));
  if (lines.length === 0) lines.push("what `until` asks for does not hold");
  const shown = lines.slice(0, MOST_LINES).map((line) => `\n- ${line}`);
  if (lines.length > MOST_LINES) shown.push(`\n- and ${lines.length - MOST_LINES} more`);
  const frozen =
    handling && subject.clock.virtual
      ? "\nWhile a handler runs the virtual clock stands still. If one waits for that clock, call kit.clock.advance(ms) meanwhile."
      : "";
  return new MessagingError(
    "timeout",
    `idle() gave up after ${timeoutMs} ms, with this left:${shown.join("")}${frozen}`,
  );
}

function held({ recording }: IdleSubject): string[] {
  const running = recording.handlers.running;
  return recording.ledger.held().flatMap(({ source, id }) => {
    if (source.kind === "dead-letters") return [];
    const work = workOf(source);
    const handler = running.find((one) => one.id === id && one.source === addressName(work));
    const where = `message ${id} of ${describeAddress(work)} is held`;
    return handler === undefined
      ? [`${where}: it waits for a handler, for its next attempt, or for its settlement`]
      : [`${where}: its handler has not come to an end (attempt ${handler.attempt})`];
  });
}

function waiting({ recording, clock }: IdleSubject, sources: ReadonlySet<string>, until: number): string[] {
  const now = clock.monotonic();
  return recording.ledger.waiting().flatMap(({ work, id, dueAt }) => {
    if (dueAt > until || !sources.has(addressName(work))) return [];
    const when = dueAt > now ? `is due in ${Math.ceil(dueAt - now)} ms` : "was not delivered yet";
    return [`message ${id} of ${describeAddress(work)} ${when}`];
  });
}

function engines({ brokers }: IdleSubject): string[] {
  return brokers.flatMap((broker) => {
    const { state, publishing, consumers } = broker.status();
    const lines: string[] = [];
    if (state === "starting" || state === "stopping") lines.push(`a broker object is ${state}`);
    const open = publishing.messages + publishing.waiting;
    if (open > 0) lines.push(`${open} messages are sent and not confirmed`);
    for (const { source, state, error } of consumers) {
      if (state === "stalled") lines.push(`the consumer of ${source} is stalled: ${error?.message ?? ""}`);
    }
    return lines;
  });
}
