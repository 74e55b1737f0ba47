import { resolve } from "node:path";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { type Archive, fileArchive, type Plan, type PlannedRun, type Ramp } from "../../patterns/dead-letters/index.ts";
import {
  DLQ_EXITS,
  DLQ_JSON,
  EDIT_OPTIONS,
  editOf,
  editShown,
  FILTER,
  filterText,
  type OpenDeadLetters,
  WHOSE,
  withDeadLetters,
} from "../dead-letters-of.ts";
import { CommandError } from "../exit-codes.ts";
import { needPlace, readJson } from "../files.ts";
import type { Frame } from "../frame.ts";
import { carryOut, RUN_EXITS, RUN_JSON } from "../planned-run.ts";
import { destinationOf, duration, findTarget } from "../target.ts";
import { verb } from "../verb.ts";

/** The options of commands that run a plan. */
const RUN_OPTIONS = {
  limit: { type: "number", describe: "The most, oldest failure first" },
  rate: { type: "number", describe: "The most per second" },
  "dry-run": { type: "boolean", default: false, describe: "Only show the plan" },
  "plan-file": {
    type: "string",
    describe: "Where to keep plan and journal. Default: in anybroker-runs",
  },
  resume: { type: "string", describe: "Continue a kept plan" },
  yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
} as const;

export const dlqReplay = verb({
  name: "dlq replay",
  summary: "Send dead letters back",
  teaches: `Plans, asks, sends each back as a confirmed copy, and then removes it: duplicated at worst, never lost. Dead letters of a subscription go to that subscription only. Choose by "all" or a filter.

--ramp sends 1, 10, 100 and so on. After each step it waits until the messages are handled, and watches whether they come back dead. --patch or --script edits each under a new id.

The plan is kept in a file with rate, ramp and patch, for --resume after Ctrl-C or a crash. Options given with --resume replace the kept ones. "dlq report" shows the run.`,
  positionals: { destination: WHOSE, filter: FILTER },
  options: {
    ...RUN_OPTIONS,
    ...EDIT_OPTIONS,
    to: { type: "string", describe: "Another destination than the original one" },
    "max-replays": { type: "number", describe: "Leave out messages with this many replays. Default 3" },
    incomplete: { type: "boolean", default: false, describe: "Also with lost headers" },
    ramp: { type: "boolean", describe: "Few first, then more; --no-ramp ends a kept ramp" },
    "ramp-first": { type: "number", describe: "The first step. Default 1" },
    "ramp-factor": { type: "number", describe: "Growth per step. Default 10" },
    "ramp-watch": {
      type: "string",
      describe: "How long to watch a handled step. Default 30s",
    },
    "ramp-backlog": { type: "string", describe: "How long handling a step may take. Default 10m" },
    tolerate: { type: "number", describe: "How many may come back. Default 0" },
  },
  examples: [
    ["dlq replay orders all --dry-run", "what would happen"],
    ["dlq replay orders 'error ~ timeout' --rate 100 --yes", "those, and no more than 100 a second"],
    ["dlq replay orders all --ramp --ramp-watch 2m", "carefully"],
    [
      'dlq replay orders \'group = 1f2ba8a7d0a5\' --patch \'[{"op":"add","path":"/currency","value":"EUR"}]\'',
      "edited",
    ],
    ["dlq replay orders --resume anybroker-runs/replay-019a5a3e.json", "go on"],
  ],
  json: { ...DLQ_JSON, ...RUN_JSON },
  exits: { ...DLQ_EXITS, ...RUN_EXITS },
  async run(given, frame) {
    const { destination, to, rate, script } = given;
    const target = to === undefined ? undefined : destinationOf(findTarget(to, frame.configuration.destinations ?? []));
    const ramp = rampOf(given);
    const pace = { ...(rate === undefined ? {} : { rate }), ...(ramp === undefined ? {} : { ramp }) };
    const edit = await editOf(given, frame);
    if (given.resume !== undefined && given.patch !== undefined)
      throw new CommandError("usage", "the plan has the patch: use --resume without --patch, or plan anew");
    return withDeadLetters(
      frame,
      destination,
      async (open) => {
        const { "max-replays": maxReplays, limit, incomplete } = given;
        const plan = (filter: string) =>
          open.dead.replay(filter, {
            ...pace,
            signal: frame.interruption.signal,
            incomplete,
            ...(edit === undefined ? {} : { edit }),
            ...(limit === undefined ? {} : { limit }),
            ...(target === undefined ? {} : { to: target }),
            ...(maxReplays === undefined ? {} : { maxReplays }),
          });
        const again = { ...pace, ...(typeof edit === "function" ? { edit } : {}) };
        const planned = await planOrResume(frame, open, given, plan, again);
        const more = given.resume === undefined ? await editShown(frame, open, planned.plan, edit) : "";
        const { count, source } = planned.plan;
        return carryOut(frame, {
          planned,
          destination,
          label: open.label,
          dryRun: given["dry-run"],
          yes: given.yes,
          question: `Send ${count} dead letters of ${source} back?`,
          planFile: given["plan-file"] ?? given.resume,
          resume: `anybroker dlq replay ${destination}${script === undefined ? "" : ` --script ${script}`}`,
          more,
        });
      },
      target === undefined ? [] : [target],
    );
  },
});

/** The dead letters to select: a filter, or a stored plan. */
interface Which {
  readonly filter: readonly string[] | undefined;
  readonly resume: string | undefined;
}

/** Makes a plan, or resumes a stored one. Rejects with a `CommandError` unless exactly one is asked for. */
async function planOrResume(
  frame: Frame,
  { dead }: OpenDeadLetters,
  { filter, resume }: Which,
  plan: (filter: string) => Promise<PlannedRun>,
  more: Parameters<typeof dead.resume>[1] = {},
): Promise<PlannedRun> {
  const text = filterText(filter);
  if (resume !== undefined) {
    if (text !== undefined) throw new CommandError("usage", "the plan has its filter: use --resume without one");
    const plan = (await readJson(resume, frame.context, frame.interruption.signal)) as Plan;
    return dead.resume(plan, more).catch((error: unknown) => {
      if (!isMessagingError(error, "invalid")) throw error;
      throw new MessagingError("invalid", `--resume ${resume}: ${error.message}`, { cause: error });
    });
  }
  if (text === undefined) throw new CommandError("usage", "a filter is missing: all, or for example 'error ~ timeout'");
  return plan(text);
}

function rampOf(given: {
  readonly ramp: boolean | undefined;
  readonly resume: string | undefined;
  readonly "ramp-first": number | undefined;
  readonly "ramp-factor": number | undefined;
  readonly "ramp-watch": string | undefined;
  readonly "ramp-backlog": string | undefined;
  readonly tolerate: number | undefined;
}): boolean | Ramp | undefined {
  const { ramp, resume, "ramp-first": first, "ramp-factor": factor, "ramp-watch": watch, tolerate } = given;
  const { "ramp-backlog": backlog } = given;
  if ([first, factor, watch, backlog, tolerate].every((value) => value === undefined)) return ramp;
  // A resumed plan has a ramp, and these options change parts of it.
  if (ramp === false || (ramp === undefined && resume === undefined)) {
    const text = "--ramp-first, --ramp-factor, --ramp-watch, --ramp-backlog and --tolerate need --ramp";
    throw new CommandError("usage", text);
  }
  return {
    ...(first === undefined ? {} : { first }),
    ...(factor === undefined ? {} : { factor }),
    ...(watch === undefined ? {} : { observeMs: duration("--ramp-watch", watch) }),
    ...(backlog === undefined ? {} : { backlogMs: duration("--ramp-backlog", backlog) }),
    ...(tolerate === undefined ? {} : { tolerate }),
  };
}

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
    if (file !== undefined) await needPlace(file, frame.context);
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
