import { rabbitmq } from "anybroker/rabbitmq";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { testLoadOnBroker } from "./load-on-broker.ts";
import { testOnBroker } from "./runs-on-broker.ts";

describeRabbitMQ("the testing kit on RabbitMQ", (broker) => {
  const adapter = () => rabbitmq({ url: broker.url });
  testOnBroker(adapter);
  testLoadOnBroker(adapter);
});
