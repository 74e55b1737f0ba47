import { describeKafka } from "../brokers/suite.ts";
import { runSnippets } from "./run-snippets.ts";

describeKafka("the documentation's programs on Kafka", (broker) => {
  runSnippets(
    "kafka",
    () => broker.newNamespace(),
    (code) => code.replaceAll("localhost:9092", broker.brokers.join(",")),
  );
});
