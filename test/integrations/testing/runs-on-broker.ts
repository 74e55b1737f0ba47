import type { Adapter } from "anybroker";
import { testBroker } from "anybroker/testing";
import { expect, test } from "vitest";
import { until } from "../../brokers/until.ts";
import { orders, receipts } from "./order-app.ts";
import { testOrderApp } from "./order-app-case.ts";

/** The application's own test on a broker that runs: twice at once, and nothing is left of it. */
export function testOnBroker<Native>(adapter: () => Adapter<Native>): void {
  test("an application passes the test that it passes in process, beside itself, and leaves nothing behind", async () => {
    const kits = [1, 2].map(() => testBroker({ adapter, destinations: [receipts] }));
    await Promise.all(kits.map((kit) => testOrderApp(kit, 20)));
    await expect(kits[0]?.clock.advance(1)).rejects.toMatchObject({ code: "unsupported" });
    await Promise.all(kits.map((kit) => kit.close()));

    const namePrefix = kits[0]?.namePrefix ?? "";
    // Brokers may take a moment to forget.
    await until("the end of the kit's destinations", 60_000, async () => {
      const later = testBroker({ adapter: adapter(), destinations: [orders], declare: "verify", namePrefix });
      const started = later.broker.start().finally(() => later.close());
      await expect(started).rejects.toMatchObject({
        code: "start-failed",
        problems: expect.arrayContaining([expect.objectContaining({ code: "not-found" })]),
      });
    });
  });
}
