import { containerControls, lastLogLines, startContainer } from "../container.ts";
import type { BrokerControls } from "../contract.ts";
import { awaitValkey, VALKEY_READY_MS } from "./await-valkey.ts";
import type { StartedValkey, ValkeyInDocker } from "./record.ts";
import { VALKEY_SETTINGS } from "./settings.ts";

/** The image that the suites run against. */
const VALKEY_IMAGE = "valkey/valkey:9.1";

const PORT = 6379;

/** Starts Valkey in a container. */
export async function startInDocker(): Promise<StartedValkey> {
  const { id, host, hostPorts, guard } = await startContainer({
    image: VALKEY_IMAGE,
    ports: [PORT],
    // It asks for a password otherwise of whoever is not on its own loopback.
    command: ["valkey-server", "--protected-mode", "no", ...VALKEY_SETTINGS],
  });
  const url = `redis://${host}:${hostPorts[0]}`;
  try {
    const version = await awaitValkey(url, VALKEY_READY_MS);
    return { record: { how: "docker", url, version, containerId: id }, guard };
  } catch (cause) {
    const log = await lastLogLines(id).catch(() => "");
    await guard.release();
    throw new Error(`Valkey did not start in its container: ${String(cause)}\n${log}`, { cause });
  }
}

export function dockerControls(record: ValkeyInDocker, ready: () => Promise<unknown>): BrokerControls {
  return containerControls(record.containerId, ready);
}
