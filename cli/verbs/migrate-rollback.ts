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
  teaches: `Takes back an announced change; else goes back one step, or to the given step or share. To leave "consuming", the target broker has to be empty; its dead letters are moved back.`,
  positionals: {},
  options: {
    to: { choices: MIGRATION_STEPS, describe: "The step to go back to" },
    share: { type: "number", describe: "Percent of keys that stay on the target broker" },
    rate: { type: "number", describe: "The most messages to move per second" },
    patience: { type: "string", describe: "How long to wait for instances and empty brokers. Default 2m" },
    "dry-run": { type: "boolean", default: false, describe: "Only show the status and the step back" },
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
    configuration: "also: other destinations, or a concurrent change",
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
