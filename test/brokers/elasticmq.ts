import type { BrokerControls, BrokerOrigin } from "./contract.ts";
import { dockerControls, startInDocker } from "./elasticmq/docker.ts";
import { nativeControls, startNative } from "./elasticmq/native.ts";
import type { ElasticMQRecord, StartedElasticMQ } from "./elasticmq/record.ts";
import { withQueuesRestored } from "./elasticmq/restored.ts";
import type { Guard } from "./guard.ts";
import { selectBroker } from "./selection.ts";
import { awaitSQS } from "./sqs/await-sqs.ts";
import { newNamespace } from "./sqs/namespace.ts";
import { type RunningSQS, SQS_CREDENTIALS, SQS_REGION, type SQSStartOptions } from "./sqs/running-sqs.ts";

export type { ElasticMQRecord } from "./elasticmq/record.ts";

/** An ElasticMQ to test against: queues, and no topics. */
export interface RunningElasticMQ extends RunningSQS {
  /** Plain data from which any other process of the run makes the same object: see {@link elasticMQFrom}. */
  readonly record: ElasticMQRecord;
}

/**
 * Gets an ElasticMQ: the server at `SQS_ENDPOINT`, or as `BROKERS` says a container, or a native process. Throws
 * `BrokerUnavailable` with all reasons if there is none. What it starts ends with `stop`, or else with this process.
 */
export async function startElasticMQ(
  environment: NodeJS.ProcessEnv = process.env,
  { durable = true }: SQSStartOptions = {},
): Promise<RunningElasticMQ> {
  const { record, guard } = await selectBroker<StartedElasticMQ>(
    {
      name: "elasticmq",
      urlVariable: "SQS_ENDPOINT",
      url: async (url) => {
        await awaitSQS(url, 10_000);
        return { record: { how: "url", url, version: "of a release not known", durable: false } };
      },
      docker: () => startInDocker(durable),
      native: () => startNative(durable),
    },
    environment,
  );
  return elasticMQFrom(record, guard);
}

/** Makes the object from its record, in any process of the run. Only the one that started the broker can `stop` it. */
export function elasticMQFrom(record: ElasticMQRecord, guard?: Guard): RunningElasticMQ {
  return {
    name: "elasticmq",
    url: record.url,
    version: record.version,
    how: record.how satisfies BrokerOrigin,
    region: SQS_REGION,
    credentials: SQS_CREDENTIALS,
    durable: record.durable,
    record,
    controls: controlsOf(record),
    newNamespace: () => newNamespace(record.url, "sqs"),
    stop: async () => guard?.release(),
  };
}

function controlsOf(record: ElasticMQRecord): BrokerControls | undefined {
  if (record.how === "url") return undefined;
  return withQueuesRestored(record.url, (ready) =>
    record.how === "docker" ? dockerControls(record, ready) : nativeControls(record, ready),
  );
}
