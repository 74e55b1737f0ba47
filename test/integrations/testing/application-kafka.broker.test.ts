import { kafka } from "anybroker/kafka";
import { describeKafka } from "../../brokers/suite.ts";
import { testLoadOnBroker } from "./load-on-broker.ts";
import { testOnBroker } from "./runs-on-broker.ts";

describeKafka("the testing kit on Kafka", (broker) => {
  const adapter = () => kafka({ brokers: broker.brokers });
  testOnBroker(adapter);
  testLoadOnBroker(adapter);
});
