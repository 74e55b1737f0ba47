import { afterAll, beforeAll, test } from "vitest";
import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describeFauxqs, describeKafka, describeRabbitMQ } from "../brokers/suite.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";
import { expectLedgerToClose } from "./migrate-broker-ledger.ts";
import { startExample } from "./run-example.ts";

describeFauxqs("the shop that moves, from SQS", (sqs) => {
  describeRabbitMQ("to RabbitMQ", (rabbitmq) => {
    const host = useVirtualHost(rabbitmq);
    describeKafka("to Kafka", (kafka) => {
      let built: BuiltPackage;

      beforeAll(async () => {
        built = await buildPackage(["examples"]);
      });

      afterAll(() => built.remove());

      test("its ledger closes", { timeout: 1_000_000 }, async () => {
        const { BROKER_URL: url, ...credentials } = fauxqsEnvironment(sqs);
        const more = {
          ...credentials,
          SQS_URL: url,
          // With time enough for a machine that is busy.
          RABBITMQ_URL: `${host().url}?connectTimeoutMs=60000`,
          KAFKA_URL: `kafka://${kafka.brokers.join(",")}?connectTimeoutMs=60000`,
          LEASE_MS: "9000",
          CUSTOMERS: "8",
        };
        expectLedgerToClose(await startExample(built.folder, "migrate-broker", more).ended());
      });
    });
  });
});
