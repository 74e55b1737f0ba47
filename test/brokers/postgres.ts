import type { BrokerControls, BrokerOrigin, RunningBroker } from "./contract.ts";
import type { Guard } from "./guard.ts";
import { awaitPostgres, POSTGRES_READY_MS } from "./postgres/await-postgres.ts";
import { type Database, makeDatabase, makeSchema } from "./postgres/database.ts";
import { dockerControls, startInDocker } from "./postgres/docker.ts";
import { nativeControls, startNative } from "./postgres/native.ts";
import type { PostgresRecord, StartedPostgres } from "./postgres/record.ts";
import { selectBroker } from "./selection.ts";

export type { Database } from "./postgres/database.ts";
export type { PostgresRecord } from "./postgres/record.ts";

/** A Postgres to test against. Where this run started it, its user may do anything. */
export interface RunningPostgres extends RunningBroker {
  /** Plain data from which any other process of the run makes the same object: see {@link postgresFrom}. */
  readonly record: PostgresRecord;
  /** A fresh, empty database, so that suites do not disturb each other; with only a URL, a schema that stands for it. */
  newDatabase(): Promise<Database>;
}

/**
 * Gets a Postgres: the one at `POSTGRES_URL`, or as `BROKERS` says a container, or native processes. Throws
 * `BrokerUnavailable` with all reasons if there is none. What it starts ends with `stop`, or else with this process.
 */
export async function startPostgres(environment: NodeJS.ProcessEnv = process.env): Promise<RunningPostgres> {
  const { record, guard } = await selectBroker<StartedPostgres>(
    {
      name: "postgres",
      urlVariable: "POSTGRES_URL",
      url: async (url) => ({ record: { how: "url", url, version: await awaitPostgres(url, 10_000) } }),
      docker: startInDocker,
      native: startNative,
    },
    environment,
  );
  return postgresFrom(record, guard);
}

/** Makes the object from its record, in any process of the run. Only the one that started the broker can `stop` it. */
export function postgresFrom(record: PostgresRecord, guard?: Guard): RunningPostgres {
  return {
    name: "postgres",
    url: record.url,
    version: record.version,
    how: record.how satisfies BrokerOrigin,
    record,
    controls: controlsOf(record),
    newDatabase: () => (record.how === "url" ? makeSchema(record) : makeDatabase(record)),
    stop: async () => guard?.release(),
  };
}

function controlsOf(record: PostgresRecord): BrokerControls | undefined {
  const ready = (signal?: AbortSignal) => awaitPostgres(record.url, POSTGRES_READY_MS, signal);
  if (record.how === "docker") return dockerControls(record, ready);
  if (record.how === "native") return nativeControls(record, ready);
  return undefined;
}
