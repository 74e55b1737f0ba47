import type { BrokerControls, BrokerOrigin, RunningBroker } from "./contract.ts";
import { type FaultyLink, faultyLink } from "./faulty-link.ts";
import type { Guard } from "./guard.ts";
import { awaitKafka, KAFKA_READY_MS } from "./kafka/await-kafka.ts";
import { dockerControls, startInDocker } from "./kafka/docker.ts";
import { type Namespace, newNamespace } from "./kafka/namespace.ts";
import { nativeControls, startNative } from "./kafka/native.ts";
import type { KafkaRecord, StartedKafka } from "./kafka/record.ts";
import { selectBroker } from "./selection.ts";

export type { Namespace } from "./kafka/namespace.ts";
export type { KafkaRecord } from "./kafka/record.ts";

/** A Kafka server to test against. It makes no topic that was not asked for. */
export interface RunningKafka extends RunningBroker {
  /** Where to connect first, each as `host:port`. */
  readonly brokers: readonly string[];
  /** Plain data from which any other process of the run makes the same object: see {@link kafkaFrom}. */
  readonly record: KafkaRecord;
  /** Fresh names, so that suites do not disturb each other. */
  newNamespace(): Namespace;
  /**
   * Starts a link to the server: a client that connects to it first comes through it ever after. One at a time.
   * Undefined for a broker given by URL, since Kafka tells its clients where to connect.
   */
  readonly faultyLink: (() => Promise<FaultyLink>) | undefined;
}

/**
 * Gets a Kafka: the one at `KAFKA_BROKERS` (`host:port,host:port`), or as `BROKERS` says a container, or a native
 * process. Throws `BrokerUnavailable` with all reasons if there is none. What it starts ends with `stop`, or else with
 * this process.
 */
export async function startKafka(environment: NodeJS.ProcessEnv = process.env): Promise<RunningKafka> {
  const { record, guard } = await selectBroker<StartedKafka>(
    {
      name: "kafka",
      urlVariable: "KAFKA_BROKERS",
      url: async (list) => {
        const brokers = list.split(",").map((broker) => broker.trim());
        await awaitKafka(brokers, 10_000);
        // Kafka tells its clients what it can do, but not its release.
        return { record: { how: "url", brokers, version: "of a release not known" } };
      },
      docker: startInDocker,
      native: startNative,
    },
    environment,
  );
  return kafkaFrom(record, guard);
}

/** Makes the object from its record, in any process of the run. Only the one that started the broker can `stop` it. */
export function kafkaFrom(record: KafkaRecord, guard?: Guard): RunningKafka {
  const { brokers } = record;
  return {
    name: "kafka",
    url: `kafka://${brokers.join(",")}`,
    brokers,
    version: record.version,
    how: record.how satisfies BrokerOrigin,
    record,
    controls: controlsOf(record),
    newNamespace: () => newNamespace(brokers),
    faultyLink: linkOf(record),
    stop: async () => guard?.release(),
  };
}

function controlsOf(record: KafkaRecord): BrokerControls | undefined {
  const ready = (signal?: AbortSignal) => awaitKafka(record.brokers, KAFKA_READY_MS, signal);
  if (record.how === "docker") return dockerControls(record, ready);
  if (record.how === "native") return nativeControls(record, ready);
  return undefined;
}

function linkOf(record: KafkaRecord): RunningKafka["faultyLink"] {
  if (record.how === "url") return undefined;
  const { host, port, advertisedPort } = record.linked;
  return () => faultyLink(`kafka://${host}:${port}`, { port: advertisedPort });
}
