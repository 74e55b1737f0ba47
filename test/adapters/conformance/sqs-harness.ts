import { type SqsOptions, sqs } from "../../../adapters/sqs/index.ts";
import type { Harness } from "../../../conformance/index.ts";
import type { Namespace } from "../../brokers/sqs/namespace.ts";
import type { RunningSQS } from "../../brokers/sqs/running-sqs.ts";
import { existingOnSQS } from "./existing-on-sqs.ts";
import { foreignOnSQS } from "./foreign-sqs.ts";

/** Far longer than anything takes, however busy the machine is. */
const PATIENCE_MS = 240_000;

/** An emulator is one process, which all tests of a run ask at once: it may have no time for a request for long. */
const REQUEST_MS = 60_000;
/** Longer than any renewal takes, however busy the machine is: no duplicate is allowed in most cases. */
const LEASE_MS = 60_000;
/** Of cases that outlast leases, some of them several; they have few messages, whose renewals are quick. */
const SHORT_LEASE_MS = 20_000;
/** Of workers that are killed: how late their messages come back. */
const WORKER_LEASE_MS = 20_000;
const WAIT_SECONDS = 1;

/** What the emulators lack or do otherwise than SQS. */
const SHORTCOMINGS: Readonly<
  Record<string, Pick<Harness, "withoutTopics" | "withoutSupplementaryCharacters" | "losesInRestarts">>
> = {
  fauxqs: {
    withoutSupplementaryCharacters: "its queues refuse characters beyond U+FFFF in bodies, which SQS accepts",
  },
  elasticmq: {
    withoutTopics: "it has queues only, and refuses requests to SNS",
    // Seen by the SDK alone: 1,700 messages confirmed, received all the while and never deleted; two restarts in good order
    // later, with every visibility timeout over, 1,639 were on the queue.
    losesInRestarts: "it loses messages that are received while it stops, although no consumer deletes them",
  },
};

/** SQS and SNS under the conformance suite, with names of its own. */
export function sqsHarness(broker: RunningSQS, { namePrefix }: Namespace): Harness {
  const options: SqsOptions = {
    endpoint: broker.url,
    region: broker.region,
    credentials: broker.credentials,
    namePrefix,
    visibilityTimeoutMs: LEASE_MS,
    waitSeconds: WAIT_SECONDS,
    connectTimeoutMs: REQUEST_MS,
    requestTimeoutMs: REQUEST_MS,
  };
  const { controls } = broker;
  const shortcomings = SHORTCOMINGS[broker.name];
  return {
    name: `sqs on ${broker.name}`,
    emulator: `${broker.name} ${broker.version}`,
    patienceMs: PATIENCE_MS,
    adapter: () => sqs(options),
    foreign: foreignOnSQS(broker, namePrefix, broker.name === "elasticmq"),
    existing: () => existingOnSQS(broker, namePrefix, shortcomings?.withoutTopics === undefined),
    processes: {
      module: new URL("sqs-process.ts", import.meta.url).href,
      options: { sqs: { ...options, visibilityTimeoutMs: WORKER_LEASE_MS } },
    },
    leasing: () => sqs({ ...options, visibilityTimeoutMs: SHORT_LEASE_MS }),
    // On both emulators, an abandoned poll takes messages until its time is over.
    abandonedMs: WAIT_SECONDS * 1_000,
    cannotTellUnroutable: "SNS confirms an event that no subscription takes",
    ...shortcomings,
    ...(controls === undefined
      ? {}
      : {
          restart: () => controls.restart(),
          kill: async () => {
            await controls.kill();
            await controls.start();
          },
        }),
  };
}
