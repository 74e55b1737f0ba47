import { execFile } from "node:child_process";
import { chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { guard } from "../guard.ts";
import { startProcess } from "../native-process.ts";
import { processControls, type Ready, whileItLives } from "../process-controls.ts";
import { awaitPostgres, POSTGRES_READY_MS } from "./await-postgres.ts";
import { findPostgres } from "./installation.ts";
import { freezeFamily, killFamily, thawFamily } from "./process-family.ts";
import type { PostgresNative, StartedPostgres } from "./record.ts";
import { POSTGRES_SETTINGS, POSTGRES_USER, postgresUrl } from "./settings.ts";

const execute = promisify(execFile);

/** Starts Postgres as processes of this machine, on loopback only, with all it writes in a temporary folder. */
export async function startNative(): Promise<StartedPostgres> {
  const folder = await mkdtemp(join(tmpdir(), "anybroker-postgres-"));
  const watch = guard({ kind: "processes", folder });
  try {
    const record = await prepare(folder);
    startProcess(record.server);
    const version = await whileItLives("Postgres", record.server, (signal) =>
      awaitPostgres(record.url, POSTGRES_READY_MS, signal),
    );
    return { record: { ...record, version }, guard: watch };
  } catch (error) {
    await watch.release();
    throw error;
  }
}

export function nativeControls({ server }: PostgresNative, ready: Ready): BrokerControls {
  return {
    // By SIGTERM it would wait for its clients to leave.
    ...processControls("Postgres", server, ready, "SIGINT"),
    kill: async () => {
      await killFamily(server);
      // It would not start as long as the old process waits for whoever started it to notice its end.
      await rm(join(dataFolder(server.folder), "postmaster.pid"), { force: true });
    },
    pause: async () => void freezeFamily(server),
    resume: async () => thawFamily(server),
  };
}

function dataFolder(folder: string): string {
  return join(folder, "data");
}

/** Makes the data folder. */
async function prepare(folder: string): Promise<PostgresNative> {
  const { programs, user } = await findPostgres(folder);
  const data = dataFolder(folder);
  const password = join(folder, "password");
  const environment = { HOME: folder, LANG: "C", TZ: "UTC" };
  await writeFile(password, POSTGRES_USER, { mode: 0o600 });
  if (user) for (const path of [folder, password]) await chown(path, user.uid, user.gid);
  const settings = [
    [`--pgdata=${data}`, `--username=${POSTGRES_USER}`, `--pwfile=${password}`, "--auth=scram-sha-256", "--no-sync"],
    // The same on every system, whatever locales it has.
    ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
  ].flat();
  await execute(join(programs, "initdb"), settings, { ...user, cwd: folder, env: environment, timeout: 120_000 });
  await rm(password);
  const port = await freePort();
  return {
    how: "native",
    url: postgresUrl("127.0.0.1", port),
    version: "",
    server: {
      folder,
      name: "server",
      command: join(programs, "postgres"),
      args: [
        ["-D", data, "-p", String(port), ...POSTGRES_SETTINGS],
        ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="],
        // Its shared memory is in the data folder too, so that a kill leaves nothing behind.
        ["-c", "dynamic_shared_memory_type=mmap"],
      ].flat(),
      environment,
      ...(user ? { user } : {}),
      // At once, but it still gives back what it holds of the system.
      endSignal: "SIGQUIT",
    },
  };
}
