import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { testFoodOrders } from "./food-orders-on-broker.ts";

describeRabbitMQ("the food orders on RabbitMQ", (broker) => {
  const place = useVirtualHost(broker);
  testFoodOrders(() => ({ BROKER_URL: place().url }), 300);
});
