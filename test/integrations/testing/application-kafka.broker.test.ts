import { kafka } from "anybroker/kafka";
import { describeKafka } from "../../brokers/suite.ts";
import { testOnBroker } from "./runs-on-broker.ts";

describeKafka("the testing kit on Kafka", (broker) => {
  testOnBroker(() => kafka({ brokers: broker.brokers }));
});
