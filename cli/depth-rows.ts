import type { Adapter, Depth } from "../core/adapter.ts";
import type { WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { type BrokerStatistics, deadCountOf, type StatisticsReader, standingCount } from "./broker-statistics.ts";
import { missingText } from "./frame.ts";
import { addressOf, describeDestination, findTarget } from "./target.ts";

/** A queue or subscription at one moment. What is not known is null. */
export interface Row {
  readonly destination: string;
  readonly ready: number | null;
  readonly unsettled: number | null;
  readonly exact: boolean;
  readonly changePerSecond: number | null;
  readonly arrivalPerSecond: number | null;
  readonly drainPerSecond: number | null;
  readonly emptyInSeconds: number | null;
  readonly oldestAgeMs: number | null;
  readonly consumers: number | null;
  readonly deadLetters: number | null;
  readonly deadLettersHeld: number | null;
  readonly problem: string | null;
}

/** One look at everything. */
export interface Looked {
  readonly at: number;
  readonly rows: readonly Row[];
  /** How many ever came, as far as it is told. */
  readonly written: readonly (number | null)[];
}

/** What is looked by. */
interface StatisticsSource {
  readonly adapter: Adapter;
  readonly looking: StatisticsReader;
  /** What else may have been meant by a name that is not there. */
  readonly known: readonly Destination[];
}

/** A row of the look before. */
interface Last {
  readonly row: Row;
  readonly written: number | null;
  readonly seconds: number;
}

/** Looks at queues and subscriptions, and how they changed since the look before. */
export async function lookAt(
  source: StatisticsSource,
  wanted: readonly Destination[],
  at: number,
  before: Looked | undefined,
): Promise<Looked> {
  const seen = await Promise.all(
    wanted.map((destination, index) => {
      const row = before?.rows[index];
      if (before === undefined || row === undefined) return seenOf(source, destination, undefined);
      return seenOf(source, destination, {
        row,
        written: before.written[index] ?? null,
        seconds: (at - before.at) / 1_000,
      });
    }),
  );
  return { at, rows: seen.map(({ row }) => row), written: seen.map(({ written }) => written) };
}

async function seenOf(
  { adapter, looking, known }: StatisticsSource,
  destination: Destination,
  last: Last | undefined,
): Promise<{ readonly row: Row; readonly written: number | null }> {
  const name = describeDestination(destination);
  const of = addressOf(findTarget(name, [destination])) as WorkAddress;
  try {
    const [depth, dead, { written, oldestAgeMs, consumers }] = await Promise.all([
      adapter.depth(of),
      deadCountOf(adapter, of),
      looking.at(of).catch(() => UNSEEN),
    ]);
    const { ready, unsettled = null, exact } = depth;
    const rates = ratesOf(depth, written, last);
    return {
      row: { destination: name, ready, unsettled, exact, ...rates, oldestAgeMs, consumers, ...dead, problem: null },
      written,
    };
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    const { code, message } = error;
    const problem = code === "not-found" ? await missingText(adapter, of, known) : message;
    return { row: { destination: name, ...UNKNOWN, problem }, written: null };
  }
}

const UNSEEN: BrokerStatistics = { consumers: null, written: null, oldestAgeMs: null };
const NO_RATES = { changePerSecond: null, arrivalPerSecond: null, drainPerSecond: null, emptyInSeconds: null };
const UNKNOWN = {
  ...{ ready: null, unsettled: null, exact: false, ...NO_RATES },
  ...{ oldestAgeMs: null, consumers: null, deadLetters: null, deadLettersHeld: null },
};

type Rates = Pick<Row, "changePerSecond" | "arrivalPerSecond" | "drainPerSecond" | "emptyInSeconds">;

function ratesOf(depth: Depth, written: number | null, last: Last | undefined): Rates {
  if (last === undefined || last.row.ready === null) return NO_RATES;
  const standing = standingCount(depth);
  const changePerSecond = (standing - last.row.ready - (last.row.unsettled ?? 0)) / last.seconds;
  const came = written === null || last.written === null ? null : (written - last.written) / last.seconds;
  return {
    changePerSecond,
    arrivalPerSecond: came,
    // The two were not read at one moment.
    drainPerSecond: came === null ? null : Math.max(came - changePerSecond, 0),
    emptyInSeconds: changePerSecond < 0 ? standing / -changePerSecond : null,
  };
}
