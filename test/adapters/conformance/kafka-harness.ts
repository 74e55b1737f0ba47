import { type KafkaOptions, kafka } from "../../../adapters/kafka/index.ts";
import type { Harness } from "../../../conformance/index.ts";
import type { Namespace, RunningKafka } from "../../brokers/kafka.ts";
import { existingOnKafka } from "./existing-on-kafka.ts";
import { foreignOnKafka } from "./foreign-kafka.ts";

/** Far longer than anything takes, however busy the machine is. */
const PATIENCE_MS = 240_000;

/** Long enough that a machine that is busy with other things is heard in time. */
const SESSION_MS = 15_000;
/** Of workers that are killed: how late others have their messages. The least that Kafka takes unless told otherwise. */
const WORKER_SESSION_MS = 6_000;

/** Kafka under the conformance suite, with names of its own. */
export function kafkaHarness(broker: RunningKafka, { namePrefix }: Namespace): Harness {
  const options: KafkaOptions = {
    brokers: broker.brokers,
    sessionTimeoutMs: SESSION_MS,
    reconnect: { firstMs: 50, maxMs: 500 },
  };
  const { controls } = broker;
  return {
    name: "kafka",
    patienceMs: PATIENCE_MS,
    adapter: () => kafka(options),
    foreign: foreignOnKafka(broker.brokers),
    namePrefix,
    existing: () => existingOnKafka(broker.brokers, namePrefix),
    processes: {
      module: new URL("kafka-process.ts", import.meta.url).href,
      options: { kafka: { ...options, sessionTimeoutMs: WORKER_SESSION_MS } },
    },
    sessionMs: SESSION_MS,
    cannotTellUnroutable: "Kafka confirms and keeps every event, with or without a subscription",
    ...(controls === undefined
      ? {}
      : {
          restart: () => controls.restart(),
          kill: async () => {
            await controls.kill();
            await controls.start();
          },
        }),
  };
}
