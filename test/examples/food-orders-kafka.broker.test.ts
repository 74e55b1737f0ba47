import { describeKafka } from "../brokers/suite.ts";
import { testFoodOrders } from "./food-orders-on-broker.ts";

describeKafka("the food orders on Kafka", (broker) => {
  // Its names are its own, and new with every run.
  testFoodOrders(() => ({ BROKER_URL: broker.url }), 300);
});
