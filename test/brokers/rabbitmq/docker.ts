import { containerControls, startContainer } from "../container.ts";
import type { BrokerControls } from "../contract.ts";
import { awaitRabbitMQ, RABBITMQ_READY_MS } from "./await-rabbitmq.ts";
import type { RabbitMQInDocker, StartedRabbitMQ } from "./record.ts";

/** The image that the suites run against. */
const RABBITMQ_IMAGE = "rabbitmq:4.3-management";

const AMQP_PORT = 5672;
const MANAGEMENT_PORT = 15672;

/** Starts RabbitMQ in a container. */
export async function startInDocker(): Promise<StartedRabbitMQ> {
  const { id, host, hostPorts, guard } = await startContainer({
    image: RABBITMQ_IMAGE,
    ports: [AMQP_PORT, MANAGEMENT_PORT],
    readyLine: /Server startup complete/,
  });
  const [amqp, management] = hostPorts;
  const url = `amqp://guest:guest@${host}:${amqp}`;
  try {
    const version = await awaitRabbitMQ(url, RABBITMQ_READY_MS);
    const managementUrl = `http://guest:guest@${host}:${management}`;
    return { record: { how: "docker", url, version, managementUrl, containerId: id }, guard };
  } catch (error) {
    await guard.release();
    throw error;
  }
}

export function dockerControls(record: RabbitMQInDocker, ready: () => Promise<unknown>): BrokerControls {
  return containerControls(record.containerId, ready);
}
