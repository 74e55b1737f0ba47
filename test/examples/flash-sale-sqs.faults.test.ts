import { describeFauxqs } from "../brokers/suite.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";
import { testSales } from "./sell-on-broker.ts";

describeFauxqs("the flash sale on SQS and SNS", (broker) => {
  testSales(broker, {
    environment: () => fauxqsEnvironment(broker),
    // An emulator does in a minute what the others do in seconds.
    orders: 3_000,
    hasConnection: false,
  });
});
