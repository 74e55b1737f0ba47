import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describePostgres, describeRabbitMQ } from "../brokers/suite.ts";
import { testOrders } from "./order-service-on-broker.ts";

describeRabbitMQ("the order service on RabbitMQ", (broker) => {
  const place = useVirtualHost(broker);
  describePostgres("with its database in Postgres", (postgres) => {
    testOrders(postgres, { environment: () => ({ BROKER_URL: place().url }), customers: 40, kills: 2 });
  });
});
