import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { testFirstExamples } from "./first-examples.ts";

describeRabbitMQ("the smallest examples on RabbitMQ", (broker) => {
  const place = useVirtualHost(broker);
  testFirstExamples(() => ({ BROKER_URL: place().url }));
});
