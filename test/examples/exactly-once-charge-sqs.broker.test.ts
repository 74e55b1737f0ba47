import { describeFauxqs, describePostgres } from "../brokers/suite.ts";
import { testCharges } from "./charge-on-broker.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";

describeFauxqs("the exactly-once charge on SQS", (broker) => {
  describePostgres("with its books in Postgres", (postgres) => {
    // An emulator is slow, and what a killed worker held is its own for 10 seconds more.
    testCharges(postgres, { environment: () => fauxqsEnvironment(broker), cards: 200, kills: 2 });
  });
});
