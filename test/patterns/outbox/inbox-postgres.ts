import type { PoolClient } from "pg";
import type { OpenInbox } from "../../../conformance/outbox/index.ts";
import { postgresInbox } from "../../../patterns/outbox/postgres/inbox.ts";
import { openPoolOfOwnParsers } from "../postgres-pool.ts";

/** Which inbox to open. */
export interface InboxToOpen {
  readonly url: string;
  readonly table: string;
}

/** Opens an inbox with a pool of its own, beside the table `effects`; a process of the conformance suite does it too. */
export async function openInbox({ url, table }: InboxToOpen): Promise<OpenInbox<PoolClient>> {
  const pool = openPoolOfOwnParsers(url);
  const inbox = postgresInbox(pool, { table, timeoutMs: 20_000 });
  await inbox.migrate();
  return {
    inbox,
    write: async (transaction, effect) => {
      await transaction.query("INSERT INTO effects (effect) VALUES ($1)", [effect]);
    },
    close: () => pool.end(),
  };
}
