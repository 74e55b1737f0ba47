import { type DifferenceName, MIGRATION_STEPS, type MigrationStep } from "../../patterns/migration/index.ts";
import { operatorOf } from "../frame.ts";
import {
  CHANGE_EXITS,
  CHANGE_JSON,
  changeMigration,
  MIGRATE_EXITS,
  STATUS_JSON,
  withMigration,
} from "../migrations.ts";
import { duration } from "../target.ts";
import { verb } from "../verb.ts";

export const migrateAdvance = verb({
  name: "migrate advance",
  summary: "Go to the next step of a migration, or to a larger share",
  teaches: `The steps are new, prepared, consuming, publishing, bridged, proven, retired. It announces the next one, waits until every live instance has taken it over, and puts it in force; or it takes up a change that broke off. Ctrl-C stops the waiting: the change stays announced, and "migrate advance" goes on, or "migrate rollback" takes it back.

What the new broker lacks has to be accepted by name before "prepared": --accept priority --accept rewind; "doctor --plan" lists it.`,
  positionals: {},
  options: {
    share: { type: "number", describe: "Percent of the keys for the new broker, on the way to publishing" },
    accept: { type: "string", array: true, describe: "What is lost and may be; may be given several times" },
    rate: { type: "number", describe: "Messages per second that are moved on the way to bridged" },
    patience: { type: "string", describe: "How long to wait for instances and empty brokers; else 2m" },
    "dry-run": { type: "boolean", default: false, describe: "Only tell where it stands, and what would be next" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    ["migrate advance --accept priority", "begin, without priorities from now on"],
    ["migrate advance --share 10 --yes", "a tenth of the keys to the new broker"],
  ],
  json: { ...CHANGE_JSON, ...STATUS_JSON },
  exits: {
    ...MIGRATE_EXITS,
    ...CHANGE_EXITS,
    unavailable: "something is lost that was not accepted, or the state store or a broker cannot be reached",
    configuration:
      "it was begun with other destinations, somebody else changed it at the same time, or its proof shows a difference",
  },
  run: (given, frame) =>
    withMigration(frame, async (control) => {
      const { share, accept, rate, patience, "dry-run": dryRun, yes } = given;
      return changeMigration(frame, control, {
        dryRun,
        yes,
        question: ({ step, pending, share: now }) => {
          if (pending !== undefined) return `Continue the announced change (${pending.step}, ${pending.share} %)?`;
          const next = share !== undefined && step === "publishing" && now < 100 ? "publishing" : after(step);
          return `Advance from ${step} to ${next}${share === undefined ? "" : `, with ${share} % of the keys`}?`;
        },
        change: (onProgress) =>
          control.advance({
            by: operatorOf(frame),
            signal: frame.interruption.signal,
            onProgress,
            ...(share === undefined ? {} : { share }),
            // The control checks the names.
            ...(accept === undefined ? {} : { accept: accept as readonly DifferenceName[] }),
            ...(rate === undefined ? {} : { rate }),
            ...(patience === undefined ? {} : { patienceMs: duration("--patience", patience) }),
          }),
      });
    }),
});

function after(step: MigrationStep): MigrationStep {
  return MIGRATION_STEPS[MIGRATION_STEPS.indexOf(step) + 1] ?? step;
}
