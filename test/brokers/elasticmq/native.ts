import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { guard } from "../guard.ts";
import { startProcess } from "../native-process.ts";
import { processControls, type Ready, whileItLives } from "../process-controls.ts";
import { awaitSQS, SQS_READY_MS } from "../sqs/await-sqs.ts";
import { type ElasticMQInstallation, findElasticMQ } from "./installation.ts";
import type { ElasticMQNative, StartedElasticMQ } from "./record.ts";
import { ELASTICMQ_VERSION, serverSettings } from "./server-settings.ts";

/** A JVM that leaves room for the tests. */
const JVM_OPTIONS = ["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC"] as const;

/** Starts ElasticMQ as a process of this machine, on loopback only, with all it writes in a temporary folder. */
export async function startNative(durable: boolean): Promise<StartedElasticMQ> {
  const installation = await findElasticMQ();
  const folder = await mkdtemp(join(tmpdir(), "anybroker-elasticmq-"));
  const watch = guard({ kind: "processes", folder });
  try {
    const record = await prepare(installation, folder, durable);
    startProcess(record.server);
    await whileItLives("ElasticMQ", record.server, (signal) => awaitSQS(record.url, SQS_READY_MS, { signal }));
    return { record, guard: watch };
  } catch (error) {
    await watch.release();
    throw error;
  }
}

export function nativeControls(record: ElasticMQNative, ready: Ready): BrokerControls {
  return processControls("ElasticMQ", record.server, ready);
}

/** Writes the configuration. */
async function prepare(
  { java, jars }: ElasticMQInstallation,
  folder: string,
  durable: boolean,
): Promise<ElasticMQNative> {
  const port = await freePort();
  const settings = join(folder, "elasticmq.conf");
  await writeFile(settings, serverSettings("127.0.0.1", port, durable ? join(folder, "data") : undefined));
  return {
    how: "native",
    url: `http://127.0.0.1:${port}`,
    version: ELASTICMQ_VERSION,
    durable,
    server: {
      folder,
      name: "server",
      command: java,
      args: [...JVM_OPTIONS, `-Dconfig.file=${settings}`, "-cp", join(jars, "*"), "org.elasticmq.server.Main"],
      environment: { HOME: folder, LANG: "C.UTF-8" },
    },
  };
}
