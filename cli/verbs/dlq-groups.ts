import { isMessagingError } from "../../core/errors.ts";
import type { Groups } from "../../patterns/dead-letters/index.ts";
import { type Cell, columns } from "../columns.ts";
import {
  ageText,
  DLQ_EXITS,
  DLQ_JSON,
  FILTER,
  filterText,
  LOOK_JSON,
  type OpenDeadLetters,
  openTarget,
  SCAN_PATIENCE_MS,
  unseenText,
  WHOSE,
  withDeadLetters,
  withElsewhere,
} from "../dead-letters-of.ts";
import { type Frame, namedWork, withBroker, workOn } from "../frame.ts";
import { problemJson } from "../standing.ts";
import { describeDestination, findTarget } from "../target.ts";
import { preview } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";

const LONGEST_ERROR = 80;

export const dlqGroups = verb({
  name: "dlq groups",
  summary: "What failed in the same way, counted",
  teaches: `Counts dead letters by the fingerprint of their failure: destination, error class, and message without ids, numbers and times. Filters take the group: "group = 1f2ba8a7d0a5". Without a destination it covers the configuration, else the broker (RabbitMQ: with managementUrl).`,
  positionals: {
    destination: { type: "string", describe: `${WHOSE.describe}. Default: all of them` },
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
  return withElsewhere(open, groups);
}

/** The groups of all queues and subscriptions, read one after the other. */
async function ofAll(frame: Frame, filter: string | undefined): Promise<Ended> {
  const named = namedWork(frame, []);
  return withBroker(frame, { destinations: [] }, async (open) => {
    const all = named ?? (await workOn(open.adapter));
    const { destinations: known = [] } = frame.configuration;
    const problems: { destination: string; code: string; message: string }[] = [];
    const errors: unknown[] = [];
    let sum: Groups = { groups: [], others: 0, held: false, complete: true, elsewhere: 0 };
    for (const one of all) {
      const name = describeDestination(one);
      try {
        const target = findTarget(name, named === undefined ? [one] : known);
        sum = together(sum, await groupsOf(frame, openTarget(frame, open, target), filter));
      } catch (error) {
        if (!isMessagingError(error) || error.code === "invalid") throw error;
        problems.push({ destination: name, ...problemJson(error) });
        errors.push(error);
      }
    }
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
    preview([errorClass, error].filter((part) => part !== null && part !== "").join(": "), LONGEST_ERROR),
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
