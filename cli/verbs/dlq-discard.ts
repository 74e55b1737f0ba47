import { resolve } from "node:path";
import { type Archive, fileArchive } from "../../patterns/dead-letters/index.ts";
import { DLQ_EXITS, DLQ_JSON, FILTER, WHOSE, withDeadLetters } from "../dead-letters-of.ts";
import { CommandError } from "../exit-codes.ts";
import { needFolder } from "../files.ts";
import { carryOut, RUN_EXITS, RUN_JSON } from "../planned-run.ts";
import { verb } from "../verb.ts";
import { planOrResume, RUN_OPTIONS } from "./dlq-replay.ts";

export const dlqDiscard = verb({
  name: "dlq discard",
  summary: "Remove dead letters, kept in an archive first",
  teaches: `Plans, asks, writes each entry to the archive (JSON lines for the owner only, flushed to the disk) with all that makes the message again, and then removes it. Choose by "all" or a filter.`,
  positionals: { destination: WHOSE, filter: FILTER },
  options: {
    ...RUN_OPTIONS,
    archive: { type: "string", describe: "The file to append them to; not needed with --dry-run" },
  },
  examples: [
    ["dlq discard orders 'error = RangeError' --archive orders.discarded.jsonl", "asks, and does it"],
    ["dlq discard orders 'age > 30d' --archive old.jsonl --yes", "for a job at night"],
  ],
  json: { ...DLQ_JSON, ...RUN_JSON, archive: "" },
  exits: { ...DLQ_EXITS, ...RUN_EXITS },
  async run(given, frame) {
    const { destination, archive: file, limit, rate, "dry-run": dryRun } = given;
    if (file === undefined && !dryRun)
      throw new CommandError("usage", "discard needs an archive: use --archive file.jsonl");
    if (file !== undefined) await needFolder(file, frame.context);
    const archive = fileArchive(resolve(frame.context.cwd, file ?? "unused"));
    let isWritten = true;
    const kept: Archive = {
      append: (entries) =>
        archive.append(entries).catch((error: unknown) => {
          isWritten = false;
          throw error;
        }),
    };
    try {
      return await withDeadLetters(frame, destination, async (open) => {
        const { signal } = frame.interruption;
        const pace = rate === undefined ? {} : { rate };
        const options = { archive: kept, signal, ...pace, ...(limit === undefined ? {} : { limit }) };
        const planned = await planOrResume(frame, open, given, (filter) => open.dead.discard(filter, options), {
          archive: kept,
          ...pace,
        });
        const { count, source } = planned.plan;
        const { json, ...ended } = await carryOut(frame, {
          planned,
          destination,
          label: open.label,
          dryRun,
          yes: given.yes,
          question: `Discard ${count} dead letters of ${source}, and keep them in ${file}?`,
          planFile: given["plan-file"] ?? given.resume,
          resume: `anybroker dlq discard ${destination} --archive ${file}`,
        });
        const exit = isWritten || ended.exit === "partly" ? ended.exit : "cannot-create";
        return {
          ...ended,
          ...(exit === undefined ? {} : { exit }),
          json: { ...json, archive: dryRun ? null : (file ?? null) },
        };
      });
    } finally {
      await archive.close();
    }
  },
});
