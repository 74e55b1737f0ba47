import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { testClinic } from "./dead-letter-clinic-on-broker.ts";

describeRabbitMQ("the dead-letter clinic on RabbitMQ", (broker) => {
  const place = useVirtualHost(broker);
  testClinic(() => ({ BROKER_URL: place().url }));
});
