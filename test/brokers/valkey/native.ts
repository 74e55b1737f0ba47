import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { guard } from "../guard.ts";
import { startProcess } from "../native-process.ts";
import { processControls, type Ready, whileItLives } from "../process-controls.ts";
import { awaitValkey, VALKEY_READY_MS } from "./await-valkey.ts";
import { findValkey } from "./installation.ts";
import type { StartedValkey, ValkeyNative } from "./record.ts";
import { VALKEY_SETTINGS } from "./settings.ts";

/** Starts Valkey or Redis as a process of this machine, on loopback only, with all it writes in a temporary folder. */
export async function startNative(): Promise<StartedValkey> {
  const { program, environment } = await findValkey();
  const folder = await mkdtemp(join(tmpdir(), "anybroker-valkey-"));
  const watch = guard({ kind: "processes", folder });
  try {
    const port = await freePort();
    const server = {
      folder,
      name: "server",
      command: program,
      args: ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, ...VALKEY_SETTINGS],
      environment: { ...environment, HOME: folder, LANG: "C" },
    };
    startProcess(server);
    const url = `redis://127.0.0.1:${port}`;
    const version = await whileItLives("Valkey", server, (signal) => awaitValkey(url, VALKEY_READY_MS, signal));
    return { record: { how: "native", url, version, server }, guard: watch };
  } catch (error) {
    await watch.release();
    throw error;
  }
}

export function nativeControls(record: ValkeyNative, ready: Ready): BrokerControls {
  return processControls("Valkey", record.server, ready);
}
