import { describe, inject, type TestContext, test } from "vitest";
import { askBrokerDesk, type BrokerRecords } from "./broker-desk.ts";
import type { BrokerControls, RunningBroker } from "./contract.ts";
import { elasticMQFrom, type RunningElasticMQ } from "./elasticmq.ts";
import { fauxqsFrom, type RunningFauxqs } from "./fauxqs.ts";
// Types of what the global set-up provides.
import type {} from "./global-setup.ts";
import { kafkaFrom, type RunningKafka } from "./kafka.ts";
import { postgresFrom, type RunningPostgres } from "./postgres.ts";
import { type RunningRabbitMQ, rabbitMQFrom } from "./rabbitmq.ts";
import { type RunningValkey, valkeyFrom } from "./valkey.ts";

export interface SuiteOptions {
  /** Whether its tests run side by side, also those of suites in it. Default false. */
  readonly concurrent?: boolean;
}

/** A suite that needs RabbitMQ. Where there is none, its one test is reported as NOT RUN, with the reason. */
export function describeRabbitMQ(
  title: string,
  suite: (broker: RunningRabbitMQ) => void,
  options?: SuiteOptions,
): void {
  describeBroker("rabbitmq", title, (record) => suite(rabbitMQFrom(record)), options);
}

/** A suite that needs Kafka. Where there is none, its one test is reported as NOT RUN, with the reason. */
export function describeKafka(title: string, suite: (broker: RunningKafka) => void, options?: SuiteOptions): void {
  describeBroker("kafka", title, (record) => suite(kafkaFrom(record)), options);
}

/** A suite that needs SQS. Where there is no ElasticMQ, its one test is reported as NOT RUN, with the reason. */
export function describeElasticMQ(
  title: string,
  suite: (broker: RunningElasticMQ) => void,
  options?: SuiteOptions,
): void {
  describeBroker("elasticmq", title, (record) => suite(elasticMQFrom(record)), options);
}

/** A suite that needs SQS and SNS. Where there is no fauxqs, its one test is reported as NOT RUN, with the reason. */
export function describeFauxqs(title: string, suite: (broker: RunningFauxqs) => void, options?: SuiteOptions): void {
  describeBroker("fauxqs", title, (record) => suite(fauxqsFrom(record)), options);
}

/** A suite that needs Postgres. Where there is none, its one test is reported as NOT RUN, with the reason. */
export function describePostgres(
  title: string,
  suite: (broker: RunningPostgres) => void,
  options?: SuiteOptions,
): void {
  describeBroker("postgres", title, (record) => suite(postgresFrom(record)), options);
}

/** A suite that needs Valkey or Redis. Where there is none, its one test is reported as NOT RUN, with the reason. */
export function describeValkey(title: string, suite: (broker: RunningValkey) => void, options?: SuiteOptions): void {
  describeBroker("valkey", title, (record) => suite(valkeyFrom(record)), options);
}

/** The controls that a fault case needs; without them (a broker given by URL) the case is reported as NOT RUN. */
export function controlsOrNotRun(broker: RunningBroker, context: TestContext): BrokerControls {
  if (broker.controls) return broker.controls;
  return context.skip(`NOT RUN: ${broker.name} was given by URL, so it cannot be stopped, killed or frozen`);
}

function describeBroker<Name extends keyof BrokerRecords>(
  name: Name,
  title: string,
  suite: (record: BrokerRecords[Name]) => void,
  { concurrent = false }: SuiteOptions = {},
): void {
  describe(title, { concurrent }, async () => {
    const broker = await askBrokerDesk(inject("brokerDesk"), name);
    if (broker.status === "running") suite(broker.record);
    else test(`needs ${name}`, (context) => context.skip(`NOT RUN: ${broker.reason}`));
  });
}
