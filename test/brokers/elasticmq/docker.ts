import { containerControls, lastLogLines, startContainer } from "../container.ts";
import type { BrokerControls } from "../contract.ts";
import { awaitSQS, SQS_READY_MS } from "../sqs/await-sqs.ts";
import type { ElasticMQInDocker, StartedElasticMQ } from "./record.ts";
import { ELASTICMQ_VERSION, serverSettings } from "./server-settings.ts";

/** The image that the suites run against. */
const ELASTICMQ_IMAGE = `softwaremill/elasticmq-native:${ELASTICMQ_VERSION}`;

const PORT = 9324;

/** Starts ElasticMQ in a container. */
export async function startInDocker(durable: boolean): Promise<StartedElasticMQ> {
  const { id, host, hostPorts, guard } = await startContainer({
    image: ELASTICMQ_IMAGE,
    ports: [PORT],
    files: [
      {
        path: "/opt/elasticmq.conf",
        content: serverSettings("0.0.0.0", PORT, durable ? "/data/elasticmq" : undefined),
      },
    ],
  });
  const url = `http://${host}:${hostPorts[0]}`;
  try {
    await awaitSQS(url, SQS_READY_MS);
    const record: ElasticMQInDocker = { how: "docker", url, version: ELASTICMQ_VERSION, durable, containerId: id };
    return { record, guard };
  } catch (cause) {
    const log = await lastLogLines(id).catch(() => "");
    await guard.release();
    throw new Error(`ElasticMQ did not start in its container: ${String(cause)}\n${log}`, { cause });
  }
}

export function dockerControls(record: ElasticMQInDocker, ready: () => Promise<unknown>): BrokerControls {
  return containerControls(record.containerId, ready);
}
