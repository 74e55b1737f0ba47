import { randomBytes } from "node:crypto";
import { until } from "../until.ts";
import { ask } from "./await-postgres.ts";
import type { PostgresByUrl, PostgresInDocker, PostgresNative } from "./record.ts";

/** A place on the server that one suite has for itself. */
export interface Database {
  /** Where clients connect to: whatever they make without naming a schema is in this place. */
  readonly url: string;
  /** Removes the place and all that is in it, and ends the connections to it. */
  remove(): Promise<void>;
}

/** A database of its own. */
export async function makeDatabase(record: PostgresInDocker | PostgresNative): Promise<Database> {
  const name = uniqueName();
  await until("a new database", 60_000, () => ask(record.url, `CREATE DATABASE ${name}`));
  const url = new URL(record.url);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    remove: async () => {
      await until("the end of a database", 60_000, () =>
        ask(record.url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
      );
    },
  };
}

/** For a server that is not ours: a schema of its own in the database that was given. */
export async function makeSchema(record: PostgresByUrl): Promise<Database> {
  const name = uniqueName();
  await until("a new schema", 60_000, () => ask(record.url, `CREATE SCHEMA ${name}`));
  const url = new URL(record.url);
  url.searchParams.set("options", `-c search_path=${name}`);
  return {
    url: url.href,
    remove: async () => {
      await until("the end of a schema", 60_000, () => ask(record.url, `DROP SCHEMA IF EXISTS ${name} CASCADE`));
    },
  };
}

function uniqueName(): string {
  return `test_${randomBytes(8).toString("hex")}`;
}
