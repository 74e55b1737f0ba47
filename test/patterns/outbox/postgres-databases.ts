import type { PoolClient } from "pg";
import type { OpenOutbox } from "../../../conformance/outbox/index.ts";
import type { PostgresTransaction } from "../../../patterns/outbox/postgres/connection.ts";
import { postgresOutbox } from "../../../patterns/outbox/postgres/index.ts";
import { openPoolOfOwnParsers } from "../postgres-pool.ts";

/** Which outbox to open. */
export interface OutboxToOpen {
  readonly url: string;
  readonly table: string;
  readonly keepSentMs: number;
}

/** Opens an outbox with a pool of its own; a process of the conformance suite does it too. */
export async function openOutbox({ url, ...options }: OutboxToOpen): Promise<OpenOutbox<PostgresTransaction>> {
  const pool = openPoolOfOwnParsers(url);
  const store = postgresOutbox(pool, options);
  await store.migrate();
  return {
    store,
    async begin() {
      const client: PoolClient = await pool.connect();
      await client.query("BEGIN");
      const end = (how: string) => async (): Promise<void> => {
        await client.query(how);
        client.release();
      };
      return { transaction: client, commit: end("COMMIT"), rollback: end("ROLLBACK") };
    },
    close: () => pool.end(),
  };
}
