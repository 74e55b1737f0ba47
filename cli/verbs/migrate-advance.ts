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
  teaches: `Steps: new, prepared, consuming, publishing, bridged, proven, retired. Announces the next one, waits until every live instance has taken it over, and puts it in force; or continues a change. After Ctrl-C the change stays announced.

Before "prepared", accept by name what the target broker lacks: --accept priority --accept rewind. "doctor --plan" lists it.`,
  positionals: {},
  options: {
    share: { type: "number", describe: "Percent of keys for the target broker, until publishing" },
    accept: { type: "string", array: true, describe: "A loss to accept; may be repeated" },
    rate: { type: "number", describe: "The most messages to move per second" },
    patience: { type: "string", describe: "How long to wait for instances and empty brokers. Default 2m" },
    "dry-run": { type: "boolean", default: false, describe: "Only show the status and the next step" },
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
    unavailable: "also: a loss is not accepted",
    configuration: "also: other destinations, a concurrent change, or a parity report with a difference",
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
