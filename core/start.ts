import { checkInteger, checkOptions, LONGEST_MS } from "./checks.ts";
import { type Clock, pause, type Random } from "./clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "./errors.ts";
import type { StartOptions } from "./options.ts";
import { backoffMs } from "./retry-policy.ts";

const TIMES = { firstMs: 500, maxMs: 5_000 };
/** The codes of a broker that is not there yet. A wrong password or a conflict does not go away. */
const ABSENT: readonly MessagingErrorCode[] = ["unreachable", "timeout"];

/** Makes a `MessagingError` of anything that kept a broker object from starting. */
export function asProblem(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", "the broker could not be started; see the cause", { cause: error });
}

/** Unites all problems in one error. `tried` says how many tries there were, if several. */
export function startFailed(problems: readonly MessagingError[], tried = ""): MessagingError {
  const all = problems.flatMap((problem) => (problem.code === "start-failed" ? problem.problems : [problem]));
  // A limit that one consumer meets is met by each that comes after.
  const kinds = [...Map.groupBy(all, ({ code, message }) => `${code}: ${message}`)];
  const lines = kinds.map(([line, { length }]) => `\n  - ${line}${length === 1 ? "" : ` (${length} times)`}`);
  const many = all.length === 1 ? "a problem" : `${all.length} problems`;
  return new MessagingError(
    "start-failed",
    `start found ${many}${tried}, and nothing was left open:${lines.join("")}`,
    {
      problems: all,
    },
  );
}

/** How long a start may wait for its broker. Throws `invalid` for wrong options. */
export function startWait(options: StartOptions): number {
  checkOptions("start", options, ["waitMs"]);
  const { waitMs = 0 } = options;
  checkInteger("start { waitMs }", waitMs, 0, LONGEST_MS);
  return waitMs;
}

/** How {@link startPatiently} waits, and where it reports. */
interface PatienceContext {
  /** The broker, for people. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Aborted when the start is not wanted any more: it ends the pauses and further tries. */
  readonly signal: AbortSignal;
  /** Is called before each pause with why the broker is not there. */
  notice(error: MessagingError): void;
}

/**
 * Tries to start until the broker is there, for `waitMs` at most. Rejects as the last try did; `start-failed` says how
 * many tries there were.
 */
export async function startPatiently(
  attempt: () => Promise<void>,
  waitMs: number,
  { clock, random, name, signal, notice }: PatienceContext,
): Promise<void> {
  const begin = clock.monotonic();
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      const leftMs = begin + waitMs - clock.monotonic();
      if (!isMessagingError(error, "start-failed") || !isAbsent(error)) throw error;
      if (leftMs <= 0 || signal.aborted) {
        if (tries === 1) throw error;
        const end = leftMs <= 0 ? `${waitMs} ms (waitMs)` : "vain, when it was stopped";
        throw startFailed(error.problems, ` after ${tries} tries in ${end}`);
      }
      const seconds = Math.ceil(leftMs / 1_000);
      const what = `start waits until ${name} answers: attempt ${tries} failed, ${seconds} s left`;
      notice(new MessagingError("unreachable", `${what}; ${error.problems[0]?.message ?? ""}`, { cause: error }));
      await pause(clock, Math.min(leftMs, backoffMs(tries, TIMES, random)), signal);
    }
  }
}

function isAbsent({ problems }: MessagingError): boolean {
  return problems.length > 0 && problems.every(({ code }) => ABSENT.includes(code));
}
