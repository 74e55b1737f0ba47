import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { guard } from "../guard.ts";
import { startProcess } from "../native-process.ts";
import { processControls, type Ready, whileItLives } from "../process-controls.ts";
import { awaitSQS, SQS_READY_MS } from "../sqs/await-sqs.ts";
import type { FauxqsNative, StartedFauxqs } from "./record.ts";
import { makeStorage } from "./storage.ts";
import { FAUXQS_VERSION } from "./version.ts";

/** Starts fauxqs as a process of this machine, on loopback only, with all it writes in a temporary folder. */
export async function startNative(durable: boolean): Promise<StartedFauxqs> {
  const folder = await mkdtemp(join(tmpdir(), "anybroker-fauxqs-"));
  const watch = guard({ kind: "processes", folder });
  try {
    const record = await prepare(folder, durable);
    startProcess(record.server);
    await whileItLives("fauxqs", record.server, (signal) => awaitSQS(record.url, SQS_READY_MS, { signal }));
    return { record, guard: watch };
  } catch (error) {
    await watch.release();
    throw error;
  }
}

export function nativeControls(record: FauxqsNative, ready: Ready): BrokerControls {
  return processControls("fauxqs", record.server, ready);
}

async function prepare(folder: string, durable: boolean): Promise<FauxqsNative> {
  const port = await freePort();
  const data = join(folder, "data");
  if (durable) await makeStorage(data);
  const script = fileURLToPath(new URL("server-process.ts", import.meta.url));
  return {
    how: "native",
    url: `http://127.0.0.1:${port}`,
    version: FAUXQS_VERSION,
    durable,
    server: {
      folder,
      name: "server",
      command: process.execPath,
      args: [script, String(port), ...(durable ? [data] : [])],
      environment: { HOME: folder, LANG: "C.UTF-8" },
    },
  };
}
