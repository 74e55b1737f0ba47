import { containerControls, lastLogLines, startContainer } from "../container.ts";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { awaitKafka, KAFKA_READY_MS } from "./await-kafka.ts";
import type { KafkaInDocker, StartedKafka } from "./record.ts";
import { HEAP_OPTIONS, KAFKA_VERSION, serverSettings } from "./server-settings.ts";

/** The image that the suites run against. */
export const KAFKA_IMAGE = `apache/kafka:${KAFKA_VERSION}`;

const CLIENTS_PORT = 9092;
const LINKED_PORT = 9095;

/** Starts Kafka in a container. */
export async function startInDocker(): Promise<StartedKafka> {
  const advertisedPort = await freePort();
  const { id, host, hostPorts, guard } = await startContainer({
    image: KAFKA_IMAGE,
    ports: [CLIENTS_PORT, LINKED_PORT],
    environment: (host, [clients]) => ({
      KAFKA_HEAP_OPTS: HEAP_OPTIONS.join(" "),
      ...variables(
        serverSettings(
          {
            clients: { bound: `0.0.0.0:${CLIENTS_PORT}`, advertised: `${host}:${clients}` },
            linked: { bound: `0.0.0.0:${LINKED_PORT}`, advertised: `127.0.0.1:${advertisedPort}` },
            itself: "localhost:9094",
            controller: "localhost:9093",
          },
          "/tmp/kafka-data",
        ),
      ),
    }),
  });
  const [clients = 0, linked = 0] = hostPorts;
  const brokers = [`${host}:${clients}`];
  try {
    await awaitKafka(brokers, KAFKA_READY_MS);
    const record: KafkaInDocker = {
      how: "docker",
      brokers,
      version: KAFKA_VERSION,
      linked: { host, port: linked, advertisedPort },
      containerId: id,
    };
    return { record, guard };
  } catch (cause) {
    const log = await lastLogLines(id).catch(() => "");
    await guard.release();
    throw new Error(`Kafka did not start in its container: ${String(cause)}\n${log}`, { cause });
  }
}

export function dockerControls(record: KafkaInDocker, ready: () => Promise<unknown>): BrokerControls {
  return containerControls(record.containerId, ready);
}

/** Settings as the image takes them: `a.b` is `KAFKA_A_B`. */
function variables(settings: ReadonlyMap<string, string>): Record<string, string> {
  return Object.fromEntries(
    [...settings].map(([name, value]) => [`KAFKA_${name.replaceAll(".", "_").toUpperCase()}`, value]),
  );
}
