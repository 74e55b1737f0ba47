import { MIGRATE_EXITS, STATUS_JSON, statusJson, statusText, withMigration } from "../migrations.ts";
import { verb } from "../verb.ts";

export const migrateStatus = verb({
  name: "migrate status",
  summary: "Show how far a migration is",
  teaches: `Shows the step, the share of keys on the target broker, an announced change, and the instances. Asks the state store only.`,
  positionals: {},
  options: {},
  examples: [["migrate status", "where are we?"]],
  json: STATUS_JSON,
  exits: MIGRATE_EXITS,
  run: (_, frame) =>
    withMigration(frame, async (control) => {
      const status = await control.status();
      return { json: statusJson(status), text: statusText(frame.terminal.paint, status) };
    }),
});
