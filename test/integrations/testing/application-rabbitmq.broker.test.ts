import { rabbitmq } from "anybroker/rabbitmq";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { testOnBroker } from "./runs-on-broker.ts";

describeRabbitMQ("the testing kit on RabbitMQ", (broker) => {
  testOnBroker(() => rabbitmq({ url: broker.url }));
});
