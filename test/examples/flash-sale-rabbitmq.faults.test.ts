import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { testSales } from "./sell-on-broker.ts";

describeRabbitMQ("the flash sale on RabbitMQ", (broker) => {
  const place = useVirtualHost(broker);
  testSales(broker, { environment: () => ({ BROKER_URL: place().url }) });
});
