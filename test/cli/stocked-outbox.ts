import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { createBroker, queue } from "anybroker";
import { memory } from "anybroker/memory";
import { createOutbox } from "anybroker/outbox";
import { type SqliteOutbox, sqliteOutbox } from "anybroker/outbox/sqlite";

/** An outbox on SQLite with three rows. */
export interface StockedOutbox {
  readonly store: SqliteOutbox<DatabaseSync>;
  /** Has the first so many rows refused. Resolves with their positions. */
  quarantine(count: number): Promise<readonly number[]>;
  close(): Promise<void>;
}

/** Makes it, in the file `shop.db` of a folder. */
export async function stockedOutbox(folder: string): Promise<StockedOutbox> {
  const open = () => new DatabaseSync(join(folder, "shop.db"));
  const database = open();
  database.exec("PRAGMA journal_mode = WAL");
  const store = sqliteOutbox(open, { keepSentMs: 0 });
  await store.migrate();
  const outbox = createOutbox({ store, broker: createBroker(memory()) });
  for (const id of ["m-1", "m-2", "m-3"]) await outbox.send(database, queue("orders"), { id }, { id, key: id });
  return {
    store,
    async quarantine(count) {
      const claim = await store.claim({ relay: "test", limit: count, leaseMs: 60_000 });
      const error = { code: "too-large", message: "the body is too large" };
      const positions = claim?.rows.map(({ position }) => position) ?? [];
      await store.settle(
        claim?.token ?? "",
        positions.map((position) => ({ position, outcome: "quarantined", error, holdsKey: false })),
      );
      return positions;
    },
    async close() {
      await store.close();
      database.close();
    },
  };
}
