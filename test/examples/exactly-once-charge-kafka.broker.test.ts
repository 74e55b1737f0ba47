import { describeKafka, describePostgres } from "../brokers/suite.ts";
import { testCharges } from "./charge-on-broker.ts";

describeKafka("the exactly-once charge on Kafka", (broker) => {
  describePostgres("with its books in Postgres", (postgres) => {
    // Kafka misses a worker only after some seconds, so each kill takes its time.
    testCharges(postgres, { environment: () => ({ BROKER_URL: broker.url }), cards: 300, kills: 2 });
  });
});
