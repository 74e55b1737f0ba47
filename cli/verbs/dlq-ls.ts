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
  teaches: `Lists the dead letters of a queue or subscription, those that failed first before the others, a page at a time. Nothing is consumed; on RabbitMQ and SQS they are held while they are looked at, and others do not see them meanwhile.

A filter is conditions with "and" between them: reason, error, key, id, group, header.<name> with = != ~ (holds) !~ in (…); attempts, replays, age and time with < <= > >=; since and until a time. Quote < and > for the shell.`,
  positionals: { destination: WHOSE, filter: FILTER },
  options: {
    limit: { type: "number", default: 50, describe: "The most entries on the page, 1000 at most" },
    cursor: { type: "string", describe: "Where the page before ended: its next" },
  },
  examples: [
    ["dlq ls orders", "the first 50"],
    ["dlq ls orders 'reason = attempts and error ~ timeout and age < 1h'", "some"],
    ["dlq ls order.placed..billing --json | jq .entries[].id", "for a program"],
  ],
  json: {
    ...DLQ_JSON,
    entries: "the entries, as docs/dead-letters.md has them",
    next: "for `--cursor`, to list the next page; null on the last",
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
