import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeElasticMQ, describeFauxqs, describePostgres } from "../../brokers/suite.ts";
import { inboxConsumers } from "./inbox-cases.ts";
import { onPostgres, onSqlite } from "./inbox-databases.ts";

describeFauxqs(
  "an inbox behind SQS on fauxqs",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    describePostgres("with Postgres", (postgres) => inboxConsumers(sqsHarness(broker, place), onPostgres(postgres)));
  },
  { concurrent: true },
);

describeElasticMQ(
  "an inbox behind SQS on ElasticMQ",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    inboxConsumers(sqsHarness(broker, place), onSqlite);
  },
  { concurrent: true },
);
