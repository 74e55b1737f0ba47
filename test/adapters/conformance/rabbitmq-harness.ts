import { type RabbitMQOptions, rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import type { Harness } from "../../../conformance/index.ts";
import type { RunningRabbitMQ, VirtualHost } from "../../brokers/rabbitmq.ts";
import { existingOnRabbitMQ } from "./existing-on-rabbitmq.ts";
import { foreignOnRabbitMQ } from "./foreign-rabbitmq.ts";

/** Far longer than anything takes, however busy the machine is. */
const PATIENCE_MS = 240_000;
/** Long enough that a machine that is busy with other things gives back in time what is held for so long. */
const CONSUMER_TIMEOUT_MS = 10_000;

/** RabbitMQ under the conformance suite, in a virtual host that is there by the time the first case runs. */
export function rabbitMQHarness(broker: RunningRabbitMQ, host: () => VirtualHost): Harness {
  const options = (): RabbitMQOptions => ({ url: host().url, reconnect: { firstMs: 50, maxMs: 500 } });
  const { controls, rabbitmqctl } = broker;
  return {
    name: "rabbitmq",
    patienceMs: PATIENCE_MS,
    adapter: () => rabbitmq(options()),
    foreign: foreignOnRabbitMQ(
      () => host().url,
      () => decodeURIComponent(new URL(host().url).username),
    ),
    holding: {
      longestMs: CONSUMER_TIMEOUT_MS,
      adapter: () => rabbitmq({ ...options(), consumerTimeoutMs: CONSUMER_TIMEOUT_MS }),
    },
    get namePrefix() {
      return host().namePrefix;
    },
    get processes() {
      return { module: new URL("rabbitmq-process.ts", import.meta.url).href, options: { rabbitmq: options() } };
    },
    ...(rabbitmqctl === undefined ? {} : { existing: () => existingOnRabbitMQ(rabbitmqctl, host()) }),
    ...(controls === undefined
      ? {}
      : {
          restart: () => controls.restart(),
          kill: async () => {
            await controls.kill();
            await controls.start();
          },
        }),
  };
}
