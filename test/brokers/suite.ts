import { describe, inject, type TestContext, test } from "vitest";
import type { BrokerControls, RunningBroker } from "./contract.ts";
// Types of what the global set-up provides.
import type {} from "./global-setup.ts";
import { type RunningRabbitMQ, rabbitMQFrom } from "./rabbitmq.ts";

/** A suite that needs RabbitMQ. Where there is none, its one test is reported as NOT RUN, with the reason. */
export function describeRabbitMQ(title: string, suite: (broker: RunningRabbitMQ) => void): void {
  const provided = inject("rabbitmq");
  describe(title, () => {
    if (provided.status === "running") suite(rabbitMQFrom(provided.record));
    else test("needs RabbitMQ", (context) => context.skip(`NOT RUN: ${provided.reason}`));
  });
}

/** The controls that a fault case needs; without them (a broker given by URL) the case is reported as NOT RUN. */
export function controlsOrNotRun(broker: RunningBroker, context: TestContext): BrokerControls {
  if (broker.controls) return broker.controls;
  return context.skip(`NOT RUN: ${broker.name} was given by URL, so it cannot be stopped, killed or frozen`);
}
