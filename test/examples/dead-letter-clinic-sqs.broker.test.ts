import { describeFauxqs } from "../brokers/suite.ts";
import { testClinic } from "./dead-letter-clinic-on-broker.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";

describeFauxqs("the dead-letter clinic on SQS", (broker) => {
  // An emulator is slow.
  testClinic(() => fauxqsEnvironment(broker), 1_000);
});
