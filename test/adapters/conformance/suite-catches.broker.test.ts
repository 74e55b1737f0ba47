// The proof of those cases that need worker processes: they fail where the workers' adapters are broken.
import { expect, test } from "vitest";
import { type Harness, runCase } from "../../../conformance/index.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { caseOf } from "./case-of.ts";
import { rabbitMQHarness } from "./rabbitmq-harness.ts";
import type { ProcessOptions } from "./rabbitmq-process.ts";
import { useVirtualHost } from "./virtual-host.ts";

const TRIES = 4;
const CATCHES = [
  ["acksOnDelivery", "13", /every confirmed message to be handled/],
  ["acksOnDelivery", "28a", /killed|every confirmed|to be dead-lettered/],
  ["acksOnDelivery", "32", /every confirmed message to be handled/],
  ["confirmsBeforeStoring", "4a", /every confirmed message to be handled/],
] as const;

describeRabbitMQ(
  "workers with a broken adapter fail",
  (broker) => {
    const host = useVirtualHost(broker);
    for (const [broken, number, reason] of CATCHES) {
      test(`case ${number}: ${broken}`, async () => {
        const sound = rabbitMQHarness(broker, host);
        const options: ProcessOptions = { ...(sound.processes?.options as ProcessOptions), broken };
        const module = sound.processes?.module ?? "";
        const harness: Harness = {
          name: broken,
          adapter: sound.adapter,
          processes: { module, options },
          // Long enough for all that comes before on a busy machine.
          patienceMs: 45_000,
        };
        // Whether a worker dies before or behind what it does wrong is chance, and another one on a busy machine.
        const outcomes: string[] = [];
        for (let tries = 0; tries < TRIES && !outcomes.some((outcome) => reason.test(outcome)); tries++) {
          const { report, error } = await runCase(harness, caseOf(number), 1);
          outcomes.push(error?.message ?? report.result);
        }
        expect(outcomes.join("\n")).toMatch(reason);
      });
    }
  },
  { concurrent: true },
);
