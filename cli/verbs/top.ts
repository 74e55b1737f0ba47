import type { Adapter } from "../../core/adapter.ts";
import type { WorkAddress } from "../../core/address.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { pause } from "../../patterns/dead-letters/waiting.ts";
import { duration } from "../address-text.ts";
import { consumersOf, standingCount } from "../broker-details.ts";
import { columns } from "../columns.ts";
import { CommandError } from "../exit-codes.ts";
import { withBroker } from "../frame.ts";
import type { Paint } from "../paint.ts";
import { wantedDestinations } from "../standing.ts";
import { addressOf, describeDestination, findTarget } from "../target.ts";
import { verb } from "../verb.ts";

/** A queue or subscription at one moment. What is not known is null. */
interface Row {
  readonly destination: string;
  readonly ready: number | null;
  readonly unsettled: number | null;
  readonly exact: boolean;
  readonly changePerSecond: number | null;
  readonly emptyInSeconds: number | null;
  readonly consumers: number | null;
  readonly deadLetters: number | null;
  readonly suspects: number | null;
  readonly problem: string | null;
}

export const top = verb({
  name: "top",
  summary: "How much waits on queues and subscriptions, live",
  teaches: `Shows for each queue and subscription how much waits (on Kafka the lag), how much is delivered and not settled, how fast it grows or shrinks, how many consumers there are, and how much is dead or suspect. On a terminal it is drawn again and again until Ctrl-C; elsewhere each look is lines of its own.

A broker tells little to those who look from outside: consumers are known on RabbitMQ and Kafka, and neither the age of what waits nor separate rates of coming and going are known on any; where messages are handled, "backlog" of anybroker/backpressure measures both.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {
    interval: { type: "string", default: "2s", describe: "How long between two looks" },
    count: { type: "number", describe: "Stop after so many looks" },
    once: { type: "boolean", default: false, describe: "Look once" },
  },
  examples: [
    ["top", "everything of the configuration, until Ctrl-C"],
    ["top queue:orders --once --json --broker amqp://localhost", "one look, for a program"],
  ],
  streams: true,
  json: {
    at: "when, an ISO 8601 time",
    broker: "the broker as it was chosen, without secrets",
    destinations:
      "a list: `destination`, `ready` (what could be delivered; on Kafka the lag), `unsettled`, `exact`, `changePerSecond` (of both together since the look before; null at first), `emptyInSeconds` (at that rate; null unless it shrinks), `consumers`, `deadLetters`, `suspects`, and `problem` (why it cannot be counted). What is not known is null",
  },
  exits: {
    "not-found": "with --once: none of the destinations is there",
    unavailable: "the broker cannot be reached",
    "not-allowed": "it refuses the login",
  },
  async run({ destinations = [], interval, count, once }, frame) {
    const wanted = wantedDestinations(frame, destinations).filter(({ kind }) => kind !== "topic");
    if (wanted.length === 0)
      throw new CommandError("usage", "nothing ever waits on a topic: name queues and subscriptions");
    const everyMs = duration("--interval", interval);
    if (everyMs < 100) throw new CommandError("usage", "--interval takes 100ms or more");
    const looks = once ? 1 : (count ?? Number.POSITIVE_INFINITY);
    return withBroker(frame, { destinations: [], declare: "none" }, async ({ adapter, label }) => {
      const { signal } = frame.interruption;
      const { terminal, context } = frame;
      const live = terminal.isLive && looks > 1;
      if (live) await terminal.clear();
      let before: Looked | undefined;
      for (let look = 1; look <= looks && !signal.aborted; look++) {
        if (look > 1) await pause(context.clock, everyMs, signal);
        if (signal.aborted) break;
        const now: Looked = await lookAt(adapter, wanted, context.clock.monotonic(), before);
        before = now;
        const at = new Date(context.clock.now()).toISOString();
        const text = `${terminal.paint.bold(adapter.name)} ${terminal.paint.dim(label)} ${at}\n${tableOf(terminal.paint, now.rows)}`;
        if (live) await terminal.screen(`${text}\n${terminal.paint.dim("Ctrl-C ends")}`);
        else await terminal.result({ verb: top.name, at, broker: label, destinations: now.rows }, text);
      }
      const rows = before?.rows ?? [];
      const missing = once && rows.every(({ ready }) => ready === null);
      return { text: "", exit: missing ? "not-found" : "done" };
    });
  },
});

/** One look at everything. */
interface Looked {
  readonly at: number;
  readonly rows: readonly Row[];
}

async function lookAt(
  adapter: Adapter,
  wanted: readonly Destination[],
  at: number,
  before: Looked | undefined,
): Promise<Looked> {
  const rows = await Promise.all(
    wanted.map(async (destination, index) => {
      const last = before?.rows[index];
      return rowOf(
        adapter,
        destination,
        last === undefined ? undefined : { row: last, seconds: (at - (before?.at ?? 0)) / 1_000 },
      );
    }),
  );
  return { at, rows };
}

async function rowOf(
  adapter: Adapter,
  destination: Destination,
  last: { readonly row: Row; readonly seconds: number } | undefined,
): Promise<Row> {
  const name = describeDestination(destination);
  const of = addressOf(findTarget(name, [destination])) as WorkAddress;
  try {
    const [depth, dead, suspects, consumers] = await Promise.all([
      adapter.depth(of),
      adapter.depth({ kind: "dead-letters", of }),
      adapter.depth({ kind: "suspects", of }),
      consumersOf(adapter, of).catch(() => null),
    ]);
    const { ready, unsettled = null, exact } = depth;
    const standing = standingCount(depth);
    const change =
      last === undefined || last.row.ready === null ? null : standing - (last.row.ready + (last.row.unsettled ?? 0));
    const changePerSecond = change === null || last === undefined ? null : change / last.seconds;
    return {
      destination: name,
      ...{ ready, unsettled, exact, changePerSecond, consumers },
      emptyInSeconds: changePerSecond !== null && changePerSecond < 0 ? standing / -changePerSecond : null,
      deadLetters: standingCount(dead),
      suspects: standingCount(suspects),
      problem: null,
    };
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    const unknown = { ready: null, unsettled: null, exact: false, changePerSecond: null, emptyInSeconds: null };
    return {
      destination: name,
      ...unknown,
      consumers: null,
      deadLetters: null,
      suspects: null,
      problem: error.message,
    };
  }
}

function tableOf(paint: Paint, rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.destination,
    row.ready === null ? null : `${row.exact ? "" : "~"}${row.ready}`,
    row.unsettled,
    row.changePerSecond === null ? null : { painted: rateText(paint, row.changePerSecond) },
    row.emptyInSeconds === null ? null : `${Math.ceil(row.emptyInSeconds)}s`,
    row.consumers,
    row.deadLetters === null ? null : { painted: row.deadLetters > 0 ? paint.red(String(row.deadLetters)) : "0" },
    row.suspects,
    row.problem ?? "",
  ]);
  return columns(
    paint,
    ["DESTINATION", "READY", "UNSETTLED", "CHANGE/S", "EMPTY IN", "CONSUMERS", "DEAD", "SUSPECT", ""],
    cells,
  );
}

function rateText(paint: Paint, perSecond: number): string {
  const text = `${perSecond > 0 ? "+" : ""}${perSecond.toFixed(1)}`;
  return perSecond > 0 ? paint.yellow(text) : paint.green(text);
}
