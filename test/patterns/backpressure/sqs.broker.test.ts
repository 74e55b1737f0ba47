import { sqs } from "../../../adapters/sqs/index.ts";
import { describeElasticMQ } from "../../brokers/suite.ts";
import { backpressureCases } from "./cases.ts";
import { useNames } from "./own-names.ts";

describeElasticMQ("backpressure on SQS", (broker) => {
  const names = useNames(() => broker.newNamespace());
  const { url: endpoint, region, credentials } = broker;
  backpressureCases(() => ({
    namePrefix: "",
    adapter: () => sqs({ endpoint, region, credentials, namePrefix: names().namePrefix, waitSeconds: 1 }),
  }));
});
