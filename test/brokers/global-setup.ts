import type { TestProject } from "vitest/node";
import { compilePackage } from "../package/compile-package.ts";
import { type BrokerStarts, openBrokerDesk } from "./broker-desk.ts";
import { startElasticMQ } from "./elasticmq.ts";
import { startFauxqs } from "./fauxqs.ts";
import { startKafka } from "./kafka.ts";
import { startPostgres } from "./postgres.ts";
import { startRabbitMQ } from "./rabbitmq.ts";
import { startValkey } from "./valkey.ts";

declare module "vitest" {
  interface ProvidedContext {
    brokerDesk: string;
  }
}

/** Starts each broker, and builds the package, when the first suite asks for it, once per run; ends with the run. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const starts: BrokerStarts = {
    rabbitmq: startRabbitMQ,
    kafka: startKafka,
    elasticmq: startElasticMQ,
    fauxqs: startFauxqs,
    postgres: startPostgres,
    valkey: startValkey,
  };
  const desk = await openBrokerDesk(starts, compilePackage);
  provide("brokerDesk", desk.url);
  return desk.close;
}
