import { describeKafka } from "../brokers/suite.ts";
import { testClinic } from "./dead-letter-clinic-on-broker.ts";

describeKafka("the dead-letter clinic on Kafka", (broker) => {
  // Its names are its own, and new with every run.
  testClinic(() => ({ BROKER_URL: broker.url }));
});
