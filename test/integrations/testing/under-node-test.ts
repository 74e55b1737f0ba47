// Run by runners.test.ts in a process of its own: node --test.
import { test } from "node:test";
import { testBroker } from "../../../integrations/testing/index.ts";
import { receipts } from "./order-app.ts";
import { testOrderApp } from "./order-app-case.ts";

test("an application on the in-process broker", async () => {
  await using kit = testBroker({ destinations: [receipts] });
  await testOrderApp(kit, 3_600_000);
});
