import { describeKafka, describePostgres } from "../brokers/suite.ts";
import { testOrders } from "./order-service-on-broker.ts";

describeKafka("the order service on Kafka", (broker) => {
  describePostgres("with its database in Postgres", (postgres) => {
    // Kafka misses a worker only after some seconds, so a kill takes its time.
    testOrders(postgres, { environment: () => ({ BROKER_URL: broker.url }), customers: 40, kills: 1 });
  });
});
