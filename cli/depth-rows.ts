import type { Adapter, Depth } from "../core/adapter.ts";
import type { WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { deadCountOf, NO_STATISTICS, type StatisticsReader, totalCount } from "./broker-statistics.ts";
import { missingText } from "./frame.ts";
import { describeDestination, placeOf } from "./target.ts";

/** A queue or subscription at one moment. Unknown values are null. */
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

/** The rows of all queues and subscriptions at one moment. */
export interface Reading {
  readonly at: number;
  readonly rows: readonly Row[];
  /** All messages that ever arrived, if known. */
  readonly written: readonly (number | null)[];
}

/** What rows are read from. */
interface StatisticsSource {
  readonly adapter: Adapter;
  readonly statistics: StatisticsReader;
  /** Destinations for suggestions, if one does not exist. */
  readonly known: readonly Destination[];
}

/** A row of the reading before. */
interface Last {
  readonly row: Row;
  readonly written: number | null;
  readonly seconds: number;
}

/** Reads the rows of queues and subscriptions, with the changes since the reading before. */
export async function readRows(
  source: StatisticsSource,
  wanted: readonly Destination[],
  at: number,
  before: Reading | undefined,
): Promise<Reading> {
  const read = await Promise.all(
    wanted.map((destination, index) => {
      const row = before?.rows[index];
      if (before === undefined || row === undefined) return readRow(source, destination, undefined);
      return readRow(source, destination, {
        row,
        written: before.written[index] ?? null,
        seconds: (at - before.at) / 1_000,
      });
    }),
  );
  return { at, rows: read.map(({ row }) => row), written: read.map(({ written }) => written) };
}

async function readRow(
  { adapter, statistics, known }: StatisticsSource,
  destination: Destination,
  last: Last | undefined,
): Promise<{ readonly row: Row; readonly written: number | null }> {
  const name = describeDestination(destination);
  const of = placeOf(destination) as WorkAddress;
  try {
    const [depth, dead, { written, oldestAgeMs, consumers }] = await Promise.all([
      adapter.depth(of),
      deadCountOf(adapter, of),
      statistics.at(of).catch(() => NO_STATISTICS),
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

const NO_RATES = { changePerSecond: null, arrivalPerSecond: null, drainPerSecond: null, emptyInSeconds: null };
const UNKNOWN = {
  ...{ ready: null, unsettled: null, exact: false, ...NO_RATES },
  ...{ oldestAgeMs: null, consumers: null, deadLetters: null, deadLettersHeld: null },
};

type Rates = Pick<Row, "changePerSecond" | "arrivalPerSecond" | "drainPerSecond" | "emptyInSeconds">;

function ratesOf(depth: Depth, written: number | null, last: Last | undefined): Rates {
  if (last === undefined || last.row.ready === null) return NO_RATES;
  const total = totalCount(depth);
  const changePerSecond = (total - last.row.ready - (last.row.unsettled ?? 0)) / last.seconds;
  const arrivalPerSecond = written === null || last.written === null ? null : (written - last.written) / last.seconds;
  return {
    changePerSecond,
    arrivalPerSecond,
    // Not negative, though the two values were not read at the same moment.
    drainPerSecond: arrivalPerSecond === null ? null : Math.max(arrivalPerSecond - changePerSecond, 0),
    emptyInSeconds: changePerSecond < 0 ? total / -changePerSecond : null,
  };
}
