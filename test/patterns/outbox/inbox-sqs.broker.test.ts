import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeFauxqs, describePostgres } from "../../brokers/suite.ts";
import { inboxConsumers } from "./inbox-cases.ts";
import { onPostgres, onSqlite } from "./inbox-databases.ts";

describeFauxqs("an inbox behind SQS", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place, {});
  inboxConsumers(harness, onSqlite);
  describePostgres("with Postgres", (postgres) => inboxConsumers(harness, onPostgres(postgres)));
});
