import { describeKafka } from "../brokers/suite.ts";
import { testSales } from "./sell-on-broker.ts";

describeKafka("the flash sale on Kafka", (broker) => {
  // Its names are its own, and new with every run. Whether a shop that has sold everything looks at Kafka again before it is
  // back is chance.
  testSales(broker, { environment: () => ({ BROKER_URL: broker.url }), hasConnection: false });
});
