import { describe } from "vitest";
import { testFoodOrders } from "./food-orders-on-broker.ts";

describe("the food orders in process", () => {
  testFoodOrders(() => ({}), 300);
});
