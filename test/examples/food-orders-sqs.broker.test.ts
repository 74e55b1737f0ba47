import { describeFauxqs } from "../brokers/suite.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";
import { testFoodOrders } from "./food-orders-on-broker.ts";

describeFauxqs("the food orders on SQS and SNS", (broker) => {
  // An emulator is slow.
  testFoodOrders(() => fauxqsEnvironment(broker), 60);
});
