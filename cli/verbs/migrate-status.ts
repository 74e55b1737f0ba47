import { MIGRATE_EXITS, STATUS_JSON, statusJson, statusText, withMigration } from "../migrations.ts";
import { verb } from "../verb.ts";

export const migrateStatus = verb({
  name: "migrate status",
  summary: "How far a migration is, and who acts by what",
  teaches: `Tells the step, the share of keys that goes to the new broker, what is announced and not in force yet, and which instances of the services act by it. Asks the state store alone.`,
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
