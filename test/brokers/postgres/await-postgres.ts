import { Client } from "pg";
import { until } from "../until.ts";

/** How long a server may take to start, on a slow machine that does other things as well. */
export const POSTGRES_READY_MS = 120_000;

const ANSWER_WITHIN_MS = 5_000;

/** Waits until a client can log in and ask; returns the server's version. */
export async function awaitPostgres(url: string, deadlineMs: number, signal?: AbortSignal): Promise<string> {
  const { host } = new URL(url);
  return until(
    `an answer of Postgres at ${host}`,
    deadlineMs,
    async () => {
      const [row] = await ask<{ server_version: string }>(url, "SHOW server_version");
      return row?.server_version.split(" ")[0] ?? "of a release not known";
    },
    signal,
  );
}

/** Runs one statement on a connection of its own and returns its rows. */
export async function ask<Row extends object>(url: string, statement: string): Promise<readonly Row[]> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: ANSWER_WITHIN_MS,
    query_timeout: ANSWER_WITHIN_MS,
  });
  // A connection that breaks while nothing is asked would end the process.
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query<Row>(statement)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}
