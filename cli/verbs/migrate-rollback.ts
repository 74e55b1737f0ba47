import { MIGRATION_STEPS } from "../../patterns/migration/index.ts";
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

export const migrateRollback = verb({
  name: "migrate rollback",
  summary: "Take back what is announced, or go a step back",
  teaches: `Takes back a change that is announced and not in force; otherwise it goes one step back, or to the step or share that is named. Nothing is lost on the way: to leave "consuming" the new broker has to be empty, and what is dead there is moved back.`,
  positionals: {},
  options: {
    to: { choices: MIGRATION_STEPS, describe: "The step to go back to" },
    share: { type: "number", describe: "Percent of the keys that stay on the new broker" },
    rate: { type: "number", describe: "Messages per second that are moved back" },
    patience: { type: "string", describe: "How long to wait for instances and empty brokers; else 2m" },
    "dry-run": { type: "boolean", default: false, describe: "Only tell where it stands, and what would be taken back" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    ["migrate rollback", "one step, or what is announced"],
    ["migrate rollback --to new --yes", "all the way"],
  ],
  json: { ...CHANGE_JSON, ...STATUS_JSON },
  exits: {
    ...MIGRATE_EXITS,
    ...CHANGE_EXITS,
    configuration: "it was begun with other destinations, or somebody else changed it at the same time",
  },
  run: (given, frame) =>
    withMigration(frame, async (control) => {
      const { to, share, rate, patience, "dry-run": dryRun, yes } = given;
      const step = MIGRATION_STEPS.find((one) => one === to);
      return changeMigration(frame, control, {
        dryRun,
        yes,
        question: ({ pending, step: now }) => {
          if (pending !== undefined) return `Take back the announced change (${pending.step}, ${pending.share} %)?`;
          const aim = step ?? (share === undefined ? "the step before" : `${share} % of the keys`);
          return `Go back from ${now} to ${aim}?`;
        },
        change: (onProgress) =>
          control.rollback({
            by: operatorOf(frame),
            signal: frame.interruption.signal,
            onProgress,
            ...(step === undefined ? {} : { to: step }),
            ...(share === undefined ? {} : { share }),
            ...(rate === undefined ? {} : { rate }),
            ...(patience === undefined ? {} : { patienceMs: duration("--patience", patience) }),
          }),
      });
    }),
});
