import type { TestProject } from "vitest/node";
import { BrokerUnavailable, type ProvidedBroker, type RunningBroker } from "./contract.ts";
import { type RabbitMQRecord, startRabbitMQ } from "./rabbitmq.ts";
import { recordBroker } from "./run-report.ts";

declare module "vitest" {
  interface ProvidedContext {
    rabbitmq: ProvidedBroker<RabbitMQRecord>;
  }
}

/** Starts every broker once per run, tells the test processes where they are, and ends them with the run. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const running: RunningBroker[] = [];
  provide("rabbitmq", await provided("rabbitmq", startRabbitMQ, running));
  return async () => {
    await Promise.all(running.map((broker) => broker.stop()));
  };
}

async function provided<Record>(
  name: string,
  start: () => Promise<RunningBroker & { readonly record: Record }>,
  running: RunningBroker[],
): Promise<ProvidedBroker<Record>> {
  try {
    const broker = await start();
    running.push(broker);
    recordBroker({ name, status: "running", how: broker.how, version: broker.version });
    return { status: "running", record: broker.record };
  } catch (error) {
    // Anything else is a fault of the set-up itself, and fails the run.
    if (!(error instanceof BrokerUnavailable)) throw error;
    console.error(`NOT RUN: ${error.message}`);
    recordBroker({ name, status: "not-run", reason: error.reasons });
    return { status: "not-run", reason: error.message };
  }
}
