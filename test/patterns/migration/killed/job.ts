import { join } from "node:path";
import type { ProcessAdapter } from "../../../../conformance/harness.ts";
import type { Adapter } from "../../../../core/adapter.ts";
import type { Middleware } from "../../../../core/delivery.ts";
import { idempotent } from "../../../../patterns/idempotency/index.ts";
import { postgresIdempotencyStore } from "../../../../patterns/idempotency/postgres-store.ts";
import { sqliteIdempotencyStore } from "../../../../patterns/idempotency/sqlite-store.ts";
import type { IdempotencyStore } from "../../../../patterns/idempotency/store.ts";
import { fileMigrationStore } from "../../../../patterns/migration/file-store.ts";
import type { MigrationStore } from "../../../../patterns/migration/index.ts";
import { postgresMigrationStore } from "../../../../patterns/migration/postgres-store.ts";
import { sqliteMigrationStore } from "../../../../patterns/migration/sqlite-store.ts";
import { openDatabase } from "../../idempotency/sqlite-database.ts";
import { openPool } from "../../postgres-pool.ts";

/** Where the state of a migration is kept, and what was handled: in files of the folder, or in a Postgres database. */
export type StatePlace = { readonly kind: "sqlite" | "file" } | { readonly kind: "postgres"; readonly url: string };

/** What a process of the service is told. */
export interface Job {
  /** The process, and not another in its place. */
  readonly worker: string;
  readonly customers: readonly string[];
  readonly from: ProcessAdapter;
  readonly to: ProcessAdapter;
  readonly namePrefix: string;
  /** Of the books, and of the state unless that is in Postgres. */
  readonly folder: string;
  readonly state: StatePlace;
}

export interface OpenState {
  readonly state: MigrationStore;
  readonly idempotency: IdempotencyStore;
  close(): Promise<void>;
}

/** Opens the stores with connections of their own; in Postgres makes their tables. */
export async function openState(folder: string, place: StatePlace): Promise<OpenState> {
  if (place.kind === "postgres") {
    const pool = openPool(place.url);
    const state = postgresMigrationStore(pool);
    const idempotency = postgresIdempotencyStore(pool);
    await state.migrate();
    await idempotency.migrate();
    return { state, idempotency, close: () => pool.end() };
  }
  const open = (name: string) => openDatabase(join(folder, name), LOCK_MS);
  const handled = open("idempotency.sqlite");
  const idempotency = sqliteIdempotencyStore(handled);
  if (place.kind === "file") {
    return {
      state: fileMigrationStore(join(folder, "state"), { timeoutMs: 60_000 }),
      idempotency,
      close: async () => handled.close(),
    };
  }
  const steps = open("state.sqlite");
  return {
    state: sqliteMigrationStore(steps),
    idempotency,
    async close() {
      handled.close();
      steps.close();
    },
  };
}

/** For how long one process waits for the lock of another. */
const LOCK_MS = 2_000;

export async function openAdapter({ module, options }: ProcessAdapter): Promise<Adapter> {
  const made = (await import(module)) as { createAdapter(options: unknown): Adapter };
  return made.createAdapter(options);
}

/** Once per message. The lease is how long what a killed process held is held after it. */
export function once(store: IdempotencyStore): Middleware {
  return idempotent(store, { leaseMs: 15_000, postponeMs: 100, waitMs: 200 });
}
