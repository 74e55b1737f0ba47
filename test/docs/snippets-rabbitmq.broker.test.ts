import { describeRabbitMQ } from "../brokers/suite.ts";
import { runSnippets } from "./run-snippets.ts";

describeRabbitMQ("the documentation's programs on RabbitMQ", (broker) => {
  runSnippets(
    "rabbitmq",
    () => broker.newVirtualHost(),
    (code, { url }) => code.replaceAll("amqp://guest:guest@localhost:5672", url),
  );
});
