import { columns } from "../columns.ts";
import {
  ageText,
  DLQ_EXITS,
  DLQ_JSON,
  FILTER,
  filterText,
  LOOK_JSON,
  LOOK_PATIENCE_MS,
  noneText,
  unseenText,
  WHOSE,
  withDeadLetters,
} from "../dead-letters-of.ts";
import { preview } from "../printable.ts";
import { verb } from "../verb.ts";

const LONGEST_ERROR = 80;

export const dlqGroups = verb({
  name: "dlq groups",
  summary: "What failed in the same way, counted",
  teaches: `Counts dead letters by the fingerprint of their failure: destination, error class, and message with ids, numbers and times taken out. The largest group comes first. A group's name is for filters: "group = 1f2ba8a7d0a5".`,
  positionals: { destination: WHOSE, filter: FILTER },
  options: {},
  examples: [["dlq groups orders", "what went wrong, and how often"]],
  json: {
    ...DLQ_JSON,
    groups:
      "the groups, the largest first: `group`, `destination`, `errorClass`, `error`, `count`, `firstFailedAt`, `lastFailedAt`, `example` (an entry)",
    others: "how many belong to none of the first 1,000 groups",
    ...LOOK_JSON,
  },
  exits: DLQ_EXITS,
  run: async ({ destination, filter }, frame) =>
    withDeadLetters(frame, destination, async ({ dead, label, target }) => {
      const text = filterText(filter);
      const options = {
        patienceMs: LOOK_PATIENCE_MS,
        signal: frame.interruption.signal,
        ...(text === undefined ? {} : { filter: text }),
      };
      const { groups, others, ...looked } = await dead.groups(options);
      const { paint } = frame.terminal;
      const now = frame.context.clock.now();
      const rows = groups.map(({ group, count, errorClass, error, example, lastFailedAt }) => [
        count,
        group,
        { painted: paint.yellow(example.reason) },
        preview([errorClass, error].filter((part) => part !== null && part !== "").join(": "), LONGEST_ERROR),
        ageText(lastFailedAt, now),
        example.id,
      ]);
      const shown =
        groups.length === 0
          ? noneText(target.name, text, looked)
          : columns(paint, ["COUNT", "GROUP", "REASON", "ERROR", "LAST", "EXAMPLE"], rows);
      return {
        json: { broker: label, destination: target.name, groups, others, ...looked },
        text: [shown, ...(others === 0 ? [] : [`and ${others} in further groups`]), ...unseenText(looked)].join("\n"),
      };
    }),
});
