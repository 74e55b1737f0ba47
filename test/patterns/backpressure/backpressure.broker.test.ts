import { afterAll, beforeAll } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { sqs } from "../../../adapters/sqs/index.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeElasticMQ, describeKafka, describeRabbitMQ } from "../../brokers/suite.ts";
import { backpressureCases } from "./cases.ts";

interface OwnNames {
  readonly namePrefix: string;
  remove(): Promise<void>;
}

/** Names for the tests of the enclosing `describe`, removed after them. */
function useNames(newNamespace: () => OwnNames): () => OwnNames {
  let names: OwnNames | undefined;
  beforeAll(() => {
    names = newNamespace();
  });
  afterAll(() => names?.remove());
  return () => {
    if (names === undefined) throw new Error("the names are made before the first test, and not earlier");
    return names;
  };
}

describeRabbitMQ("backpressure on RabbitMQ", (broker) => {
  const host = useVirtualHost(broker);
  // Before 4.3 the delivery count cannot tell what was given back from a death.
  const [major = 0, minor = 0] = broker.version.split(".").map(Number);
  const countsReleases = major < 4 || (major === 4 && minor < 3);
  backpressureCases(() => ({ namePrefix: "", countsReleases, adapter: () => rabbitmq({ url: host().url }) }));
});

describeKafka("backpressure on Kafka", (broker) => {
  const names = useNames(() => broker.newNamespace());
  backpressureCases(() => ({
    namePrefix: names().namePrefix,
    adapter: () => kafka({ brokers: broker.brokers }),
  }));
});

describeElasticMQ("backpressure on SQS", (broker) => {
  const names = useNames(() => broker.newNamespace());
  const { url: endpoint, region, credentials } = broker;
  backpressureCases(() => ({
    namePrefix: "",
    adapter: () => sqs({ endpoint, region, credentials, namePrefix: names().namePrefix, waitSeconds: 1 }),
  }));
});
