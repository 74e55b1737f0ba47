import { kafka } from "../../../adapters/kafka/index.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { backpressureCases } from "./cases.ts";
import { useNames } from "./own-names.ts";

describeKafka("backpressure on Kafka", (broker) => {
  const names = useNames(() => broker.newNamespace());
  backpressureCases(() => ({
    namePrefix: names().namePrefix,
    adapter: () => kafka({ brokers: broker.brokers }),
  }));
});
