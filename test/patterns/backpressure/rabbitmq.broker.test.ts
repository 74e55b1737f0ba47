import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { backpressureCases } from "./cases.ts";

describeRabbitMQ("backpressure on RabbitMQ", (broker) => {
  const host = useVirtualHost(broker);
  // Before 4.3 the delivery count cannot tell what was given back from a death.
  const [major = 0, minor = 0] = broker.version.split(".").map(Number);
  const countsReleases = major < 4 || (major === 4 && minor < 3);
  backpressureCases(() => ({ namePrefix: "", countsReleases, adapter: () => rabbitmq({ url: host().url }) }));
});
