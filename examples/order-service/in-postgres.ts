import { postgresInbox, postgresOutbox } from "anybroker/outbox/postgres";
import { Pool, type PoolClient } from "pg";
import type { Database } from "./database.ts";

/** The database of a run in Postgres. */
export function openPostgres(url: string, run: string): Database<PoolClient> {
  const newPool = (): Pool => {
    const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: 10_000 });
    // Connections may break, in use or not: whoever uses one is told by the statement, and the pool makes others.
    pool.on("error", () => undefined);
    pool.on("connect", (client) => client.on("error", () => undefined));
    return pool;
  };
  // Handlers hold a connection each, for as long as they run.
  const [pool, handlers] = [newPool(), newPool()];
  const outbox = postgresOutbox(pool, { table: `outbox_${run}` });
  const inbox = postgresInbox(handlers, { table: `inbox_${run}` });
  return {
    outbox,
    inbox,
    async transaction(work) {
      const client = await pool.connect();
      try {
        await client.query("BEGIN");
        const result = await work(client);
        await client.query("COMMIT");
        client.release();
        return result;
      } catch (error) {
        // A connection that cannot even roll back is closed, and the server rolls back.
        await client.query("ROLLBACK").then(
          () => client.release(),
          () => client.release(true),
        );
        throw error;
      }
    },
    async ask(client, statement, values = []) {
      return (await client.query(statement, [...values])).rows;
    },
    async close() {
      await Promise.all([pool.end(), handlers.end()]);
    },
  };
}
