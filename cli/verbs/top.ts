import type { Adapter, Depth } from "../../core/adapter.ts";
import type { WorkAddress } from "../../core/address.ts";
import { pause } from "../../core/clock.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import {
  deadCountOf,
  deadText,
  NO_STATISTICS,
  type StatisticsReader,
  statisticsBy,
  totalCount,
} from "../broker-statistics.ts";
import { columns } from "../columns.ts";
import { CommandError } from "../exit-codes.ts";
import { missingText, namedWork, withBroker, workOn } from "../frame.ts";
import { describeDestination, duration, placeOf } from "../target.ts";
import type { Paint } from "../terminal.ts";
import { verb } from "../verb.ts";
import { toldText } from "../wording.ts";

export const top = verb({
  name: "top",
  summary: "How much waits on queues and subscriptions, live",
  teaches: `Shows messages that are ready (Kafka: the lag), unsettled and dead, how fast that changes, and consumers. Redraws a terminal until Ctrl-C; elsewhere it prints lines.

Kafka reports arrivals, drain, consumers and the age of the oldest message (to 5 %); RabbitMQ reports consumers; SQS and the in-process broker none of these. "backlog" of anybroker/backpressure measures them on every broker.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration, else of the broker" },
  },
  options: {
    interval: { type: "string", default: "2s", describe: "Time between two looks" },
    count: { type: "number", describe: "Stop after this many looks" },
    once: { type: "boolean", default: false, describe: "Look once" },
  },
  examples: [
    ["top", "everything of the configuration, else of the broker, until Ctrl-C"],
    ["top queue:orders --once --json --broker amqp://localhost", "one look, for a program"],
  ],
  streams: true,
  json: {
    at: "",
    broker: "",
    destinations:
      "`destination`, `ready`, `unsettled`, `exact`, `changePerSecond` (of both), `arrivalPerSecond`, `drainPerSecond`, `emptyInSeconds`, `oldestAgeMs`, `consumers`, `deadLetters`, `deadLettersHeld` (by a run, for example), `problem`",
  },
  exits: {
    "not-found": "also: the broker has nothing of anybroker",
    unavailable: "",
    "not-allowed": "",
  },
  async run({ destinations = [], interval, count, once }, frame) {
    const named = namedWork(frame, destinations);
    const everyMs = duration("--interval", interval);
    if (everyMs < 100) throw new CommandError("usage", "--interval takes 100ms or more");
    const readings = once ? 1 : (count ?? Number.POSITIVE_INFINITY);
    return withBroker(frame, { destinations: [] }, async ({ adapter, label }) => {
      const { signal } = frame.interruption;
      const { terminal, context } = frame;
      const live = terminal.isLive && readings > 1;
      if (live) await terminal.clear();
      const wanted = named ?? (await workOn(adapter));
      const statistics = await statisticsBy(adapter);
      const { destinations: known = [] } = frame.configuration;
      let before: Reading | undefined;
      try {
        for (let reading = 1; reading <= readings && !signal.aborted; reading++) {
          if (reading > 1) await pause(context.clock, everyMs, signal);
          if (signal.aborted) break;
          const now: Reading = await readRows(
            { adapter, statistics, known },
            wanted,
            context.clock.monotonic(),
            before,
          );
          before = now;
          const at = new Date(context.clock.now()).toISOString();
          const text = `${terminal.paint.bold(adapter.name)} ${terminal.paint.dim(label)} ${at}\n${tableOf(terminal.paint, now.rows)}`;
          if (live) await terminal.screen(`${text}\n${terminal.paint.dim("Ctrl-C ends")}`);
          else await terminal.result({ verb: top.name, at, broker: label, destinations: now.rows }, text);
        }
      } finally {
        await statistics.close();
      }
      const rows = before?.rows ?? [];
      const missing = once && rows.every(({ ready }) => ready === null);
      return { text: "", exit: missing ? "not-found" : "done" };
    });
  },
});

function tableOf(paint: Paint, rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.destination,
    row.ready === null ? null : `${row.exact ? "" : "~"}${row.ready}`,
    row.unsettled,
    row.changePerSecond === null ? null : { painted: changeText(paint, row.changePerSecond) },
    row.arrivalPerSecond?.toFixed(1),
    row.drainPerSecond?.toFixed(1),
    row.emptyInSeconds === null ? null : `${Math.ceil(row.emptyInSeconds)}s`,
    row.oldestAgeMs === null ? null : `${Math.ceil(row.oldestAgeMs / 1_000)}s`,
    row.consumers,
    row.deadLetters === null ? null : { painted: deadText(paint, { ...row, deadLetters: row.deadLetters }) },
    row.problem ?? "",
  ]);
  return columns(
    paint,
    [
      { name: "DESTINATION", when: "whole" },
      "READY",
      "UNSETTLED",
      "CHANGE/S",
      "IN/S",
      "OUT/S",
      "EMPTY IN",
      "OLDEST",
      "CONSUMERS",
      "DEAD",
      "",
    ],
    cells,
  );
}

function changeText(paint: Paint, perSecond: number): string {
  const text = `${perSecond > 0 ? "+" : ""}${perSecond.toFixed(1)}`;
  return perSecond > 0 ? paint.yellow(text) : paint.green(text);
}

/** A queue or subscription at one moment. Unknown values are null. */
interface Row {
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
async function readRows(
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
    const problem = error.code === "not-found" ? await missingText(adapter, of, known) : toldText(error);
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
