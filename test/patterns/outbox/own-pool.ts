import type { Pool } from "pg";
import { afterAll, beforeAll } from "vitest";
import type { Database, RunningPostgres } from "../../brokers/postgres.ts";
import { openPool } from "../postgres-pool.ts";

/** A database of their own for the tests of the enclosing `describe`, removed after them, and a pool onto it. */
export function useOwnPool(broker: RunningPostgres): { pool(): Pool; url(): string } {
  let made: { readonly place: Database; readonly pool: Pool } | undefined;
  beforeAll(async () => {
    const place = await broker.newDatabase();
    made = { place, pool: openPool(place.url) };
  });
  afterAll(async () => {
    await made?.pool.end();
    await made?.place.remove();
  });
  const present = () => {
    if (made === undefined) throw new Error("the database is made before the first test, and not earlier");
    return made;
  };
  return { pool: () => present().pool, url: () => present().place.url };
}
