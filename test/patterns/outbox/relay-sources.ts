import type { RunningPostgres } from "../../brokers/postgres.ts";
import { openOutbox as openPostgres } from "./postgres-databases.ts";
import type { RelaySource } from "./relay-cases.ts";
import { newDatabase, openOutbox as openSqlite } from "./sqlite/databases.ts";

/** Outboxes on a Postgres server, each in a database of its own. */
export function postgresSource(server: RunningPostgres): RelaySource {
  return {
    lateCommits: true,
    server,
    async place() {
      const { url, remove } = await server.newDatabase();
      const options = { url, table: "outbox", keepSentMs: 0 };
      return {
        open: () => openPostgres(options),
        processes: { module: new URL("postgres-databases.ts", import.meta.url).href, options },
        remove,
      };
    },
  };
}

/** Outboxes in SQLite, each in a file of its own. */
export const sqliteSource: RelaySource = {
  lateCommits: false,
  async place() {
    const { file, remove } = newDatabase();
    const options = { file, table: "outbox", keepSentMs: 0, timeoutMs: 5_000 };
    return {
      open: () => openSqlite(options),
      processes: { module: new URL("sqlite/databases.ts", import.meta.url).href, options },
      remove: async () => remove(),
    };
  },
};
