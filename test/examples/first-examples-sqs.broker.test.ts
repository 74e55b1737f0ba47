import { describeFauxqs } from "../brokers/suite.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";
import { testFirstExamples } from "./first-examples.ts";

describeFauxqs("the smallest examples on SQS and SNS", (broker) => {
  testFirstExamples(() => fauxqsEnvironment(broker));
});
