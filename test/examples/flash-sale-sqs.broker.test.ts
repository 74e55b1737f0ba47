import { describeFauxqs } from "../brokers/suite.ts";
import { testSales } from "./sell-on-broker.ts";

describeFauxqs("the flash sale on SQS and SNS", (broker) => {
  testSales(broker, {
    environment: () => ({
      BROKER_URL: `sqs://${broker.region}?endpoint=${encodeURIComponent(broker.url)}`,
      AWS_ACCESS_KEY_ID: broker.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: broker.credentials.secretAccessKey,
    }),
    // An emulator does in a minute what the others do in seconds.
    orders: 3_000,
    hasConnection: false,
  });
});
