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
export default async function setup({ provide, name }: TestProject): Promise<() => Promise<void>> {
  // Only faults restart servers. An emulator of SQS that keeps its data waits for the disk with every request.
  const durable = name.startsWith("faults");
  const starts: BrokerStarts = {
    rabbitmq: startRabbitMQ,
    kafka: startKafka,
    elasticmq: () => startElasticMQ(process.env, { durable }),
    fauxqs: () => startFauxqs(process.env, { durable }),
    postgres: startPostgres,
    valkey: startValkey,
  };
  const desk = await openBrokerDesk(starts, compilePackage);
  provide("brokerDesk", desk.url);
  return desk.close;
}
