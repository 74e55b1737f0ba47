import type { DeadLetterEntry } from "../../patterns/dead-letters/index.ts";
import {
  bodyText,
  DLQ_EXITS,
  DLQ_JSON,
  entryId,
  LOOK_JSON,
  SCAN_PATIENCE_MS,
  unseenText,
  WHOSE,
  withDeadLetters,
  withElsewhere,
} from "../dead-letters-of.ts";
import { CommandError } from "../exit-codes.ts";
import { type Paint, printable, printableLines } from "../terminal.ts";
import { verb } from "../verb.ts";

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
      const { next: _, entries, ...scan } = await withElsewhere(open, page);
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
