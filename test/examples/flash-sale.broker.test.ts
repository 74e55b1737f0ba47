import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import type { RunningBroker } from "../brokers/contract.ts";
import { controlsOrNotRun, describeFauxqs, describeKafka, describeRabbitMQ } from "../brokers/suite.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectNothingLost, startFlashSale } from "./run-flash-sale.ts";

const ORDERS = 20_000;
/** An emulator of SQS does in a minute what the others do in seconds. */
const FEWER_ORDERS = 3_000;

describe("the flash sale", () => {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  describeRabbitMQ("on RabbitMQ", (broker) => {
    const place = useVirtualHost(broker);
    testSales(broker, ORDERS, () => ({ BROKER_URL: place().url }));
  });

  // Its names are its own, and new with every run.
  describeKafka("on Kafka", (broker) => testSales(broker, ORDERS, () => ({ BROKER_URL: broker.url })));

  describeFauxqs("on SQS and SNS", (broker) =>
    testSales(broker, FEWER_ORDERS, () => ({
      BROKER_URL: `sqs://${broker.region}?endpoint=${encodeURIComponent(broker.url)}`,
      AWS_ACCESS_KEY_ID: broker.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: broker.credentials.secretAccessKey,
    })),
  );

  function testSales(broker: RunningBroker, orders: number, variables: () => Readonly<Record<string, string>>): void {
    const environment = () => ({ ...variables(), ORDERS: `${orders}` });
    const restarts = [
      { when: "in the burst", sign: /customers wait for room/ },
      { when: "in mid-run", sign: /takes its place/ },
    ];
    test("a killed worker is replaced and nothing is lost", { timeout: 300_000 }, async () => {
      const { code, output } = await startFlashSale(built.folder, environment()).ended();
      expectNothingLost(output, orders);
      expect(output).toMatch(/process \d+ was killed \(SIGKILL/);
      expect(output).toMatch(/process \d+ takes its place/);
      expect(code).toBe(0);
    });

    // One restart while orders are being accepted, one while they are being handled.
    // Fewer never wait for room.
    test.for(orders < ORDERS ? restarts.slice(1) : restarts)(
      "a restart of the broker $when loses nothing",
      { timeout: 300_000 },
      async ({ sign }, context) => {
        const controls = controlsOrNotRun(broker, context);
        const run = startFlashSale(built.folder, environment());
        await run.printed(sign);
        await controls.restart();
        const { code, output } = await run.ended();
        expectNothingLost(output, orders);
        // A shop without a request under way notices nothing: on SQS there is no connection that could break.
        if (broker.name === "kafka" || broker.name === "rabbitmq") expect(output).toContain("shop: connected again");
        expect(code).toBe(0);
      },
    );
  }
});
