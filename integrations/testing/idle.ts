import { addressName, describeAddress } from "../../core/address.ts";
import type { Broker, ConsumerStatus } from "../../core/broker.ts";
import { MessagingError } from "../../core/errors.ts";
import { isThenable, shownId } from "../../core/foreign.ts";
import { workOf } from "./ledger.ts";
import type { Recording } from "./recording-adapter.ts";
import { inRealTime, pause, realNow, type TestClock, turn, VirtualClock } from "./test-clock.ts";

/** The options of {@link TestKit.idle}. */
export interface IdleOptions {
  /**
   * Waits only for work that is due within so many milliseconds of the kit's clock. Later retries and delayed messages stay.
   * 0: only work that can be done now. Default: no limit.
   */
  readonly dueWithinMs?: number;
  /**
   * Another condition, for work that no broker knows yet, such as rows of an outbox. It is checked when nothing else is left
   * to do. While it is false, a virtual clock moves on; otherwise it is checked again. `idle` rejects with what it throws.
   * Default: none.
   */
  readonly until?: () => boolean | Promise<boolean>;
  /** The timeout in milliseconds of real time. Default: the kit's `idleTimeoutMs`. */
  readonly timeoutMs?: number;
}

/** The parts of a kit that are checked. */
interface IdleSubject {
  readonly brokers: readonly Broker[];
  readonly recording: Recording;
  readonly clock: TestClock;
}

const MOST_LINES = 10;
/** How many checks in a row must find no change. */
const STILL_CHECKS = 3;
/** From this many checks on, the wait yields the processor. */
const PATIENT_AFTER = 50;
const LONGEST_PAUSE_MS = 20;
/** Additional checks after the timeout, for a busy machine. An application that never rests uses them up at once. */
const MOST_LATE_CHECKS = 100;

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
    const { done, resting, handling, sources } = check(subject, until);
    if (still >= STILL_CHECKS) {
      const moves = clock instanceof VirtualClock && !handling && (!done || resting) && clock.step(until);
      // No handler runs and nothing more is due within the limit: the rest is later.
      const later = clock instanceof VirtualClock && !handling && until !== Number.POSITIVE_INFINITY;
      if (moves) {
        still = 0;
      } else if (done || later) {
        const left = await readyOnBroker(sources, subject);
        if (left.length > 0) await pause(LONGEST_PAUSE_MS);
        else if (recording.ledger.version === version) {
          const holds = options.until();
          if (isThenable(holds) ? await inRealTime(holds, deadline - realNow(), false) : holds) return;
          if (!(clock instanceof VirtualClock && clock.step(until))) await pause(LONGEST_PAUSE_MS);
        }
      }
    }
    if (realNow() >= deadline && (still >= STILL_CHECKS || late++ >= MOST_LATE_CHECKS)) {
      throw await timedOut(subject, timeoutMs, until);
    }
  }
}

/** The work of a kit. */
interface Work {
  /** Whether nothing is left to do. */
  readonly done: boolean;
  /** Whether a delivery waits in a consumer for its next attempt. */
  readonly resting: boolean;
  /** Whether a handler runs. */
  readonly handling: boolean;
  /** The consumed sources. */
  readonly sources: ReadonlySet<string>;
}

function check({ brokers, recording }: IdleSubject, until: number): Work {
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

/** Whether a consumer takes messages, or will. A paused one may never resume. */
function takes({ state }: ConsumerStatus): boolean {
  return state === "running" || state === "stalled";
}

function isBusy(consumer: ConsumerStatus, limited: boolean): boolean {
  // With all handlers free, buffered deliveries wait for their next attempt.
  const resting = limited || consumer.state === "paused" ? consumer.waiting : 0;
  return consumer.state === "new" || consumer.unsettled > resting;
}

/** Messages on the broker. Only the broker knows what others sent and what it redelivers. */
async function readyOnBroker(sources: ReadonlySet<string>, { recording }: IdleSubject): Promise<readonly string[]> {
  const consumed = [...recording.consumed].filter(({ work }) => sources.has(addressName(work)));
  const lines = consumed.map(async ({ work, depth }) => {
    try {
      const { ready } = await depth();
      return ready > 0 ? [`${describeAddress(work)} has ${ready} messages ready`] : [];
    } catch {
      return [`the depth of ${describeAddress(work)} is unknown`];
    }
  });
  return (await Promise.all(lines)).flat();
}

async function timedOut(subject: IdleSubject, timeoutMs: number, until: number): Promise<MessagingError> {
  const { sources, handling } = check(subject, until);
  const lines = [...held(subject), ...waiting(subject, sources, until), ...engines(subject)];
  if (lines.length === 0) lines.push(...(await readyOnBroker(sources, subject)));
  if (lines.length === 0) lines.push("the condition `until` is false");
  const shown = lines.slice(0, MOST_LINES).map((line) => `\n- ${line}`);
  if (lines.length > MOST_LINES) shown.push(`\n- and ${lines.length - MOST_LINES} more`);
  const frozen =
    handling && subject.clock.virtual
      ? "\nThe virtual clock does not move while a handler runs. If a handler waits for it, call kit.clock.advance(ms)."
      : "";
  return new MessagingError(
    "timeout",
    `idle() timed out after ${timeoutMs} ms, with this left:${shown.join("")}${frozen}`,
  );
}

function held({ recording }: IdleSubject): string[] {
  const running = recording.handlers.running;
  return recording.ledger.inFlight().flatMap(({ source, id }) => {
    if (source.kind === "dead-letters") return [];
    const work = workOf(source);
    const handler = running.find((one) => one.id === id && one.source === addressName(work));
    const where = `message ${shownId(id)} of ${describeAddress(work)} is in flight`;
    return handler === undefined
      ? [`${where}: it waits for a handler, for its next attempt, or to be settled`]
      : [`${where}: its handler still runs (attempt ${handler.attempt})`];
  });
}

function waiting({ recording, clock }: IdleSubject, sources: ReadonlySet<string>, until: number): string[] {
  const now = clock.monotonic();
  return recording.ledger.waiting().flatMap(({ work, id, dueAt }) => {
    if (dueAt > until || !sources.has(addressName(work))) return [];
    const when = dueAt > now ? `is due in ${Math.ceil(dueAt - now)} ms` : "was not delivered yet";
    return [`message ${shownId(id)} of ${describeAddress(work)} ${when}`];
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
