import { forEachAtOnce } from "../../core/concurrency.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import type { DeadLetterEntry, Groups } from "../../patterns/dead-letters/index.ts";
import { type Cell, columns } from "../columns.ts";
import { problemJson } from "../comparison.ts";
import {
  ageText,
  bodyText,
  DLQ_EXITS,
  DLQ_JSON,
  entryId,
  FILTER,
  filterText,
  LOOK_JSON,
  noneText,
  type OpenDeadLetters,
  openTarget,
  SCAN_PATIENCE_MS,
  unseenText,
  WHOSE,
  withDeadLetters,
  withElsewhere,
} from "../dead-letters-of.ts";
import { CommandError } from "../exit-codes.ts";
import { type Frame, namedWork, withBroker, workOn } from "../frame.ts";
import { describeDestination, findTarget } from "../target.ts";
import { type Paint, preview, printable, printableLines, progressBar } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";

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
      const { entries, next, ...scan } = await withElsewhere(open, page, page.entries.length);
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

const MOST_SHOWN = 20;
const LARGEST_BODY = 16 * 1024 * 1024;

export const dlqShow = verb({
  name: "dlq show",
  summary: "Show one dead letter, with its body",
  teaches: `Shows reason, times, headers and body, with control characters as escapes. A message id can match several entries.`,
  positionals: {
    destination: WHOSE,
    id: { type: "string", demandOption: true, describe: "The id of the entry, or of the message" },
  },
  options: {},
  examples: [["dlq show orders Zx0fJ0oY5vZ5k8h1kq3b2A", "one of those that dlq ls listed"]],
  json: { ...DLQ_JSON, entries: "20 at most, with whole bodies", ...LOOK_JSON },
  exits: { ...DLQ_EXITS, "not-found": "" },
  run: async ({ destination, id: given }, frame) =>
    withDeadLetters(frame, destination, async (open) => {
      const { dead, label, target } = open;
      const id = entryId(given);
      const page = await dead.list({
        filter: [{ field: "id", is: "=", value: id }],
        limit: MOST_SHOWN,
        bodyBytes: LARGEST_BODY,
        patienceMs: SCAN_PATIENCE_MS,
        signal: frame.interruption.signal,
      });
      const { next: _, entries, ...scan } = await withElsewhere(open, page, page.entries.length);
      if (entries.length === 0)
        throw new CommandError(
          "not-found",
          [`no dead letter of ${target.name} has the id ${id}`, ...unseenText(scan)].join("; "),
        );
      const { paint } = frame.terminal;
      return {
        json: { broker: label, destination: target.name, entries, ...scan },
        text: entries.map((entry) => shown(paint, entry)).join("\n\n"),
      };
    }),
});

function shown(paint: Paint, entry: DeadLetterEntry): string {
  const { headers, body: _, bodyEncoding: __, bodyCut: ___, ...fields } = entry;
  const lines = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${paint.dim(name.padEnd(16))} ${printable(String(value))}`);
  const headerLines = Object.entries(headers).map(
    ([name, value]) => `${paint.dim("header")} ${printable(`${name}: ${value}`)}`,
  );
  return [...lines, ...headerLines, "", printableLines(bodyText(entry))].join("\n");
}

const MAX_GROUP_ERROR = 80;

export const dlqGroups = verb({
  name: "dlq groups",
  summary: "What failed in the same way, counted",
  teaches: `Counts dead letters by the fingerprint of their failure: destination, error class, and message without ids, numbers and times. Filters take the group: "group = 1f2ba8a7d0a5".`,
  positionals: {
    destination: {
      type: "string",
      describe: `${WHOSE.describe}. Default: all of the configuration, else of the broker`,
    },
    filter: FILTER,
  },
  options: {},
  examples: [
    ["dlq groups", "what is dead anywhere"],
    ["dlq groups orders", "what went wrong, and how often"],
  ],
  json: {
    ...DLQ_JSON,
    destination: "",
    groups:
      "`group`, `destination`, `errorClass`, `error`, `count`, `firstFailedAt`, `lastFailedAt`, `example` (an entry)",
    others: "how many are in later groups than the first 1,000",
    problems: "destinations that could not be read",
    ...LOOK_JSON,
  },
  exits: { ...DLQ_EXITS, "not-found": "" },
  async run({ destination, filter }, frame) {
    const text = filterText(filter);
    if (destination === undefined) return ofAll(frame, text);
    return withDeadLetters(frame, destination, async (open) => {
      const found = await groupsOf(frame, open, text);
      const { name } = open.target;
      return {
        json: { broker: open.label, destination: name, ...found, problems: [] },
        text: shownText(frame, `no dead letters of ${name}`, found),
      };
    });
  },
});

async function groupsOf(frame: Frame, open: OpenDeadLetters, filter: string | undefined): Promise<Groups> {
  const options = { patienceMs: SCAN_PATIENCE_MS, signal: frame.interruption.signal };
  const groups = await open.dead.groups({ ...options, ...(filter === undefined ? {} : { filter }) });
  return withElsewhere(open, groups, groups.groups.length);
}

const NO_GROUPS: Groups = Object.freeze({ groups: [], others: 0, held: false, complete: true, elsewhere: 0 });

/** Reading a queue of SQS takes seconds, also an empty one. */
const MOST_AT_ONCE = 16;

/** Reads destinations, several at once, and shows how many are done. Results are in the order of the destinations. */
async function readAll<Result>(
  { terminal }: Frame,
  all: readonly Destination[],
  read: (one: Destination) => Promise<Result>,
): Promise<readonly Result[]> {
  const bar = progressBar(terminal, "reading", all.length);
  const results: Result[] = [];
  let done = 0;
  try {
    await forEachAtOnce(MOST_AT_ONCE, all.entries(), async ([index, one]) => {
      results[index] = await read(one);
      bar.update(++done);
    });
  } finally {
    bar.stop();
  }
  return results;
}

/** The groups of all queues and subscriptions. */
async function ofAll(frame: Frame, filter: string | undefined): Promise<Ended> {
  const named = namedWork(frame, []);
  return withBroker(frame, { destinations: [] }, async (open) => {
    const all = named ?? (await workOn(open.adapter));
    const { destinations: known = [] } = frame.configuration;
    const problems: { destination: string; code: string; message: string }[] = [];
    const errors: unknown[] = [];
    const groupsAt = async (one: Destination): Promise<Groups> => {
      const name = describeDestination(one);
      try {
        const target = findTarget(name, named === undefined ? [one] : known);
        return await groupsOf(frame, openTarget(frame, open, target), filter);
      } catch (error) {
        if (!isMessagingError(error) || error.code === "invalid") throw error;
        problems.push({ destination: name, ...problemJson(error) });
        errors.push(error);
        return NO_GROUPS;
      }
    };
    const sum = (await readAll(frame, all, groupsAt)).reduce(together, NO_GROUPS);
    const failed = problems.map(({ destination, message }) => `${destination}: ${message}`);
    const read = all.length - problems.length;
    const none = `no dead letters on ${read} ${read === 1 ? "queue or subscription" : "queues and subscriptions"}`;
    return {
      json: { broker: open.label, destination: null, ...sum, problems },
      text: [...(read === 0 ? [] : [shownText(frame, none, sum, true)]), ...failed].join("\n"),
      errors,
      exit: problems.length === 0 ? "done" : problems.length === all.length ? "not-found" : "partly",
    };
  });
}

function together(one: Groups, other: Groups): Groups {
  return {
    groups: [...one.groups, ...other.groups].sort((first, second) => second.count - first.count),
    others: one.others + other.others,
    held: one.held || other.held,
    complete: one.complete && other.complete,
    elsewhere: one.elsewhere === null || other.elsewhere === null ? null : one.elsewhere + other.elsewhere,
  };
}

function shownText(frame: Frame, none: string, found: Groups, withDestination = false): string {
  const { groups, others } = found;
  const { paint } = frame.terminal;
  const now = frame.context.clock.now();
  const rows = groups.map(({ group, destination, count, errorClass, error, example, lastFailedAt }): Cell[] => [
    ...(withDestination ? [destination] : []),
    count,
    group,
    { painted: paint.yellow(example.reason) },
    preview([errorClass, error].filter((part) => part !== null && part !== "").join(": "), MAX_GROUP_ERROR),
    ageText(lastFailedAt, now),
    example.id,
  ]);
  const whole = (name: string) => ({ name, when: "whole" }) as const;
  const error = { name: "ERROR", when: "cut" } as const;
  const names = [
    ...(withDestination ? ["OF"] : []),
    "COUNT",
    whole("GROUP"),
    "REASON",
    error,
    "LAST",
    whole("EXAMPLE"),
  ];
  return [
    groups.length === 0
      ? `${none}${found.elsewhere === 0 ? "" : " among those that could be read"}`
      : columns(paint, names, rows),
    ...(others === 0 ? [] : [`and ${others} in further groups`]),
    ...unseenText(found),
  ].join("\n");
}
