import type { BrokerControls, BrokerOrigin } from "./contract.ts";
import { dockerControls, startInDocker } from "./fauxqs/docker.ts";
import { nativeControls, startNative } from "./fauxqs/native.ts";
import type { FauxqsRecord, StartedFauxqs } from "./fauxqs/record.ts";
import type { Guard } from "./guard.ts";
import { selectBroker } from "./selection.ts";
import { awaitSQS, SQS_READY_MS } from "./sqs/await-sqs.ts";
import { newNamespace } from "./sqs/namespace.ts";
import { type RunningSQS, SQS_CREDENTIALS, SQS_REGION, type SQSStartOptions } from "./sqs/running-sqs.ts";

export type { FauxqsRecord } from "./fauxqs/record.ts";

/** A fauxqs to test against: queues and topics, at one endpoint. */
export interface RunningFauxqs extends RunningSQS {
  /** Plain data from which any other process of the run makes the same object: see {@link fauxqsFrom}. */
  readonly record: FauxqsRecord;
}

/**
 * Gets a fauxqs: the server at `SQS_SNS_ENDPOINT`, or as `BROKERS` says a container, or a native process. Throws
 * `BrokerUnavailable` with all reasons if there is none. What it starts ends with `stop`, or else with this process.
 */
export async function startFauxqs(
  environment: NodeJS.ProcessEnv = process.env,
  { durable = true }: SQSStartOptions = {},
): Promise<RunningFauxqs> {
  const { record, guard } = await selectBroker<StartedFauxqs>(
    {
      name: "fauxqs",
      urlVariable: "SQS_SNS_ENDPOINT",
      url: async (url) => {
        await awaitSQS(url, 10_000);
        return { record: { how: "url", url, version: "of a release not known", durable: false } };
      },
      docker: () => startInDocker(durable),
      native: () => startNative(durable),
    },
    environment,
  );
  return fauxqsFrom(record, guard);
}

/** Makes the object from its record, in any process of the run. Only the one that started the broker can `stop` it. */
export function fauxqsFrom(record: FauxqsRecord, guard?: Guard): RunningFauxqs {
  return {
    name: "fauxqs",
    url: record.url,
    version: record.version,
    how: record.how satisfies BrokerOrigin,
    region: SQS_REGION,
    credentials: SQS_CREDENTIALS,
    durable: record.durable,
    record,
    controls: controlsOf(record),
    newNamespace: () => newNamespace(record.url, "sqs and sns"),
    stop: async () => guard?.release(),
  };
}

function controlsOf(record: FauxqsRecord): BrokerControls | undefined {
  const ready = (signal?: AbortSignal) => awaitSQS(record.url, SQS_READY_MS, { signal });
  if (record.how === "docker") return dockerControls(record, ready);
  if (record.how === "native") return nativeControls(record, ready);
  return undefined;
}
