import { pause } from "../../core/clock.ts";
import { deadText, statisticsBy } from "../broker-statistics.ts";
import { columns } from "../columns.ts";
import { type Reading, type Row, readRows } from "../depth-rows.ts";
import { CommandError } from "../exit-codes.ts";
import { namedWork, withBroker, workOn } from "../frame.ts";
import { duration } from "../target.ts";
import type { Paint } from "../terminal.ts";
import { verb } from "../verb.ts";

export const top = verb({
  name: "top",
  summary: "How much waits on queues and subscriptions, live",
  teaches: `Shows for each queue and subscription how much waits (on Kafka the lag), how much is delivered and not settled, how fast it grows or shrinks, how many consumers there are, and how much is dead. On a terminal it is drawn again and again until Ctrl-C; elsewhere each look is lines of its own.

A broker tells little to those who look from outside. Kafka tells what comes and what goes, consumers, and (within a twentieth) the age of the oldest that waits; RabbitMQ tells consumers; SQS and the in-process broker tell none of these. Where messages are handled, "backlog" of anybroker/backpressure measures them on every broker.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration, else of the broker" },
  },
  options: {
    interval: { type: "string", default: "2s", describe: "How long between two looks" },
    count: { type: "number", describe: "Stop after so many looks" },
    once: { type: "boolean", default: false, describe: "Look once" },
  },
  examples: [
    ["top", "everything of the configuration, else everything that stands on the broker, until Ctrl-C"],
    ["top queue:orders --once --json --broker amqp://localhost", "one look, for a program"],
  ],
  streams: true,
  json: {
    at: "when, an ISO 8601 time",
    broker: "the broker as it was chosen, without secrets",
    destinations:
      "a list: `destination`, `ready` (what could be delivered; on Kafka the lag), `unsettled`, `exact`, `changePerSecond` (of both together since the look before; null at first), `arrivalPerSecond` and `drainPerSecond`, `emptyInSeconds` (as it changes; null unless it shrinks), `oldestAgeMs`, `consumers`, `deadLetters`, `deadLettersHeld` (how many of them somebody holds, such as a run; null where some are held and the broker does not tell how many), and `problem` (why it cannot be counted). What is not known is null",
  },
  exits: {
    "not-found": "with --once: none of the destinations is there; or nothing of anybroker's stands on the broker",
    unavailable: "the broker cannot be reached",
    "not-allowed": "it refuses the login",
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
