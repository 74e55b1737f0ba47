import { sqs } from "anybroker/sqs";
import { describeFauxqs } from "../../brokers/suite.ts";
import { testLoadOnBroker } from "./load-on-broker.ts";
import { testOnBroker } from "./runs-on-broker.ts";

describeFauxqs("the testing kit on SQS and SNS", (broker) => {
  const { url: endpoint, region, credentials } = broker;
  const adapter = () => sqs({ endpoint, region, credentials, waitSeconds: 1 });
  testOnBroker(adapter);
  testLoadOnBroker(adapter);
});
