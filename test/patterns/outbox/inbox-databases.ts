import type { RunningPostgres } from "../../brokers/postgres.ts";
import type { InboxDatabase } from "./inbox-cases.ts";
import { newDatabase } from "./sqlite/databases.ts";

export const onSqlite: InboxDatabase = {
  name: "SQLite",
  async place() {
    const { file, remove } = newDatabase();
    return { place: { file }, remove: async () => remove() };
  },
};

export const onPostgres = (broker: RunningPostgres): InboxDatabase => ({
  name: "Postgres",
  async place() {
    const { url, remove } = await broker.newDatabase();
    return { place: { url }, remove };
  },
});
