import { afterAll, beforeAll } from "vitest";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import type { Database, RunningPostgres } from "../../brokers/postgres.ts";
import { describeFauxqs, describeKafka, describePostgres, describeRabbitMQ } from "../../brokers/suite.ts";
import { killedCase } from "./killed/killed-case.ts";
import { processOnKafka, processOnRabbitMQ, processOnSqs } from "./places.ts";

describeFauxqs(
  "a service of processes that moves with SQS",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    const sqs = processOnSqs(broker);
    const prefix = (letter: string): string => `${place.namePrefix}${letter}.`;
    describeRabbitMQ("and RabbitMQ", (other) => {
      const rabbit = processOnRabbitMQ(useVirtualHost(other));
      killedCase("RabbitMQ to SQS", { from: rabbit, to: sqs, namePrefix: prefix("k") });
      describePostgres("with the state in Postgres", (server) => {
        const database = useDatabase(server);
        const state = () => ({ kind: "postgres", url: database().url }) as const;
        killedCase("SQS to RabbitMQ", { from: sqs, to: rabbit, namePrefix: prefix("l"), state });
      });
    });
    describeKafka("and Kafka", (other) => {
      const theirs = other.newNamespace();
      afterAll(() => theirs.remove());
      const kafka = processOnKafka(other);
      killedCase("Kafka to SQS", { from: kafka, to: sqs, namePrefix: `${theirs.namePrefix}m.` });
      killedCase("SQS to Kafka", { from: sqs, to: kafka, namePrefix: `${theirs.namePrefix}n.` });
    });
  },
  { concurrent: true },
);

/** A database for the tests of the enclosing `describe`, removed after them. */
function useDatabase(server: RunningPostgres): () => Database {
  let database: Database | undefined;
  beforeAll(async () => {
    database = await server.newDatabase();
  });
  afterAll(async () => {
    await database?.remove();
  });
  return () => {
    if (database === undefined) throw new Error("the database is made before the first test, and not earlier");
    return database;
  };
}
