import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { guard } from "../guard.ts";
import { startProcess } from "../native-process.ts";
import { processControls, type Ready, whileItLives } from "../process-controls.ts";
import { awaitKafka, KAFKA_READY_MS } from "./await-kafka.ts";
import { findKafka, type KafkaInstallation } from "./installation.ts";
import type { KafkaNative, StartedKafka } from "./record.ts";
import { HEAP_OPTIONS, KAFKA_VERSION, serverSettings } from "./server-settings.ts";

const execute = promisify(execFile);

/** Starts Kafka as a process of this machine, on loopback only, with all it writes in a temporary folder. */
export async function startNative(): Promise<StartedKafka> {
  const installation = await findKafka();
  const folder = await mkdtemp(join(tmpdir(), "anybroker-kafka-"));
  const watch = guard({ kind: "processes", folder });
  try {
    const record = await prepare(installation, folder);
    startProcess(record.server);
    await whileItLives("Kafka", record.server, (signal) => awaitKafka(record.brokers, KAFKA_READY_MS, signal));
    return { record, guard: watch };
  } catch (error) {
    await watch.release();
    throw error;
  }
}

export function nativeControls(record: KafkaNative, ready: Ready): BrokerControls {
  return processControls("Kafka", record.server, ready);
}

/** Writes the configuration and formats the data folder. */
async function prepare({ java, jars }: KafkaInstallation, folder: string): Promise<KafkaNative> {
  const clients = await freePort();
  const linked = await freePort();
  const advertisedPort = await freePort();
  const local = (port: number) => `127.0.0.1:${port}`;
  const settings = serverSettings(
    {
      clients: { bound: local(clients), advertised: local(clients) },
      linked: { bound: local(linked), advertised: local(advertisedPort) },
      itself: local(await freePort()),
      controller: local(await freePort()),
    },
    join(folder, "data"),
  );
  const properties = join(folder, "server.properties");
  await writeFile(properties, [...settings].map(([name, value]) => `${name}=${value}\n`).join(""));
  const classPath = ["-cp", join(jars, "*")];
  const cluster = `--cluster-id=${randomBytes(16).toString("base64url")}`;
  await execute(java, [...classPath, "kafka.tools.StorageTool", "format", cluster, "-c", properties], {
    timeout: 60_000,
  });
  return {
    how: "native",
    brokers: [local(clients)],
    version: KAFKA_VERSION,
    linked: { host: "127.0.0.1", port: linked, advertisedPort },
    server: {
      folder,
      name: "server",
      command: java,
      args: [...HEAP_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", ...classPath, "kafka.Kafka", properties],
      environment: { HOME: folder, LANG: "C.UTF-8" },
    },
  };
}
