import type { DeadLetterEntry } from "../../patterns/dead-letters/index.ts";
import { columns } from "../columns.ts";
import {
  ageText,
  bodyText,
  DLQ_EXITS,
  DLQ_JSON,
  FILTER,
  filterText,
  LOOK_JSON,
  noneText,
  SCAN_PATIENCE_MS,
  unseenText,
  WHOSE,
  withDeadLetters,
  withElsewhere,
} from "../dead-letters-of.ts";
import type { Frame } from "../frame.ts";
import { preview } from "../terminal.ts";
import { verb } from "../verb.ts";

const LONGEST_ERROR = 60;
const LONGEST_BODY = 60;

export const dlqLs = verb({
  name: "dlq ls",
  summary: "List dead letters",
  teaches: `Lists dead letters, oldest failure first, by page. Consumes nothing, but RabbitMQ and SQS hide them from other readers meanwhile.

A filter is conditions joined by "and": reason, error, key, id, group, header.<name> with = != ~ (contains) !~ in (…); attempts, replays, age, time with < <= > >=; since and until a time. Quote < and > for the shell.`,
  positionals: { destination: WHOSE, filter: FILTER },
  options: {
    limit: { type: "number", default: 50, describe: "Entries on the page, 1000 at most" },
    cursor: { type: "string", describe: "The next of the page before" },
  },
  examples: [
    ["dlq ls orders", "the first 50"],
    ["dlq ls orders 'reason = attempts and error ~ timeout and age < 1h'", "some"],
    ["dlq ls order.placed..billing --json | jq .entries[].id", "for a program"],
  ],
  json: {
    ...DLQ_JSON,
    entries: "[as here](dead-letters.md#an-entry)",
    next: "for `--cursor`; null on the last page",
    ...LOOK_JSON,
  },
  exits: DLQ_EXITS,
  run: async ({ destination, filter, limit, cursor }, frame) =>
    withDeadLetters(frame, destination, async (open) => {
      const { dead, label, target } = open;
      const text = filterText(filter);
      const page = await dead.list({
        limit,
        patienceMs: SCAN_PATIENCE_MS,
        signal: frame.interruption.signal,
        ...(text === undefined ? {} : { filter: text }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      const { entries, next, ...scan } = await withElsewhere(open, page);
      const json = { broker: label, destination: target.name, entries, next, ...scan };
      const more = next === null ? [] : [`more: --cursor ${next}`];
      const shown = entries.length === 0 ? noneText(target.name, text, scan) : list(frame, entries);
      return { json, text: [shown, ...more, ...unseenText(scan)].join("\n") };
    }),
});

function list({ terminal: { paint }, context: { clock } }: Frame, entries: readonly DeadLetterEntry[]): string {
  const rows = entries.map((entry) => [
    entry.id,
    { painted: paint.yellow(entry.reason) },
    preview([entry.errorClass, entry.error].filter((part) => part !== null).join(": "), LONGEST_ERROR),
    entry.attempts,
    ageText(entry.lastFailedAt, clock.now()),
    entry.key,
    preview(bodyText(entry), LONGEST_BODY),
  ]);
  const cut = (name: string) => ({ name, when: "cut" }) as const;
  const names = [
    { name: "ID", when: "whole" },
    "REASON",
    cut("ERROR"),
    "TRIES",
    "AGO",
    cut("KEY"),
    cut("BODY"),
  ] as const;
  return columns(paint, names, rows);
}
