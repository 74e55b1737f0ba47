import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describePostgres, describeRabbitMQ } from "../brokers/suite.ts";
import { testCharges } from "./charge-on-broker.ts";

describeRabbitMQ("the exactly-once charge on RabbitMQ", (broker) => {
  const place = useVirtualHost(broker);
  describePostgres("with its books in Postgres", (postgres) => {
    testCharges(postgres, { environment: () => ({ BROKER_URL: place().url }), cards: 400, kills: 4 });
  });
});
