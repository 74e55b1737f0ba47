import { containerControls, lastLogLines, startContainer } from "../container.ts";
import type { BrokerControls } from "../contract.ts";
import { awaitPostgres, POSTGRES_READY_MS } from "./await-postgres.ts";
import type { PostgresInDocker, StartedPostgres } from "./record.ts";
import { POSTGRES_SETTINGS, POSTGRES_USER, postgresUrl } from "./settings.ts";

/** The image that the suites run against. */
const POSTGRES_IMAGE = "postgres:18";

const PORT = 5432;

/** Starts Postgres in a container. */
export async function startInDocker(): Promise<StartedPostgres> {
  const { id, host, hostPorts, guard } = await startContainer({
    image: POSTGRES_IMAGE,
    ports: [PORT],
    command: ["postgres", ...POSTGRES_SETTINGS],
    environment: () => ({ POSTGRES_USER, POSTGRES_PASSWORD: POSTGRES_USER }),
  });
  const url = postgresUrl(host, hostPorts[0]);
  try {
    const version = await awaitPostgres(url, POSTGRES_READY_MS);
    return { record: { how: "docker", url, version, containerId: id }, guard };
  } catch (cause) {
    const log = await lastLogLines(id).catch(() => "");
    await guard.release();
    throw new Error(`Postgres did not start in its container: ${String(cause)}\n${log}`, { cause });
  }
}

export function dockerControls(record: PostgresInDocker, ready: () => Promise<unknown>): BrokerControls {
  return containerControls(record.containerId, ready);
}
