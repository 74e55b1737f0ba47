import { describeFauxqs, describePostgres } from "../brokers/suite.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";
import { testOrders } from "./order-service-on-broker.ts";

describeFauxqs("the order service on SQS", (broker) => {
  describePostgres("with its database in Postgres", (postgres) => {
    // An emulator is slow, and what a killed worker held is its own for 10 seconds more.
    testOrders(postgres, { environment: () => fauxqsEnvironment(broker), customers: 20, kills: 1 });
  });
});
