import { afterAll, describe, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { conformance, type Harness } from "../../conformance/index.ts";

describeRabbitMQ("RabbitMQ", (broker) => {
  const { url, controls } = broker;
  const reconnect = { firstMs: 50, maxMs: 500 };
  const faults: Pick<Harness, "restart" | "kill"> =
    controls === undefined
      ? {}
      : {
          restart: () => controls.restart(),
          kill: async () => {
            await controls.kill();
            await controls.start();
          },
        };
  const harness: Harness = {
    name: "rabbitmq",
    adapter: () => rabbitmq({ url, reconnect }),
    processes: { module: new URL("rabbitmq-process.ts", import.meta.url).href, options: { url, reconnect } },
    ...faults,
  };
  conformance(harness, { describe, test, afterAll });
});
