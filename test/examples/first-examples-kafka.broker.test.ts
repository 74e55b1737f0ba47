import { describeKafka } from "../brokers/suite.ts";
import { testFirstExamples } from "./first-examples.ts";

describeKafka("the smallest examples on Kafka", (broker) => {
  testFirstExamples(() => ({ BROKER_URL: broker.url }));
});
