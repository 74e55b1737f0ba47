import { afterAll, beforeAll } from "vitest";
import { type SqsAdapter, type SqsOptions, sqs } from "../../../adapters/sqs/index.ts";
import type { Receiver } from "../../../core/adapter.ts";
import type { Source } from "../../../core/address.ts";
import type { Namespace } from "../../brokers/sqs/namespace.ts";
import type { RunningSQS } from "../../brokers/sqs/running-sqs.ts";
import { describeElasticMQ, describeFauxqs } from "../../brokers/suite.ts";
import { Inbox } from "../../sqs/opened.ts";
import { opened } from "../opened.ts";

/** A suite for every server of SQS that a run has. */
export function describeSQS(title: string, suite: (broker: RunningSQS) => void): void {
  describeFauxqs(`${title}, on fauxqs`, suite);
  describeElasticMQ(`${title}, on ElasticMQ`, suite);
}

/** How to reach a server, with names of one's own. */
export function optionsOf(broker: RunningSQS, { namePrefix }: Namespace, options: SqsOptions = {}): SqsOptions {
  const { url: endpoint, region, credentials } = broker;
  return { endpoint, region, credentials, namePrefix, waitSeconds: 1, ...options };
}

/** An adapter, opened. */
export async function openAdapter(options: SqsOptions): Promise<SqsAdapter> {
  return (await opened(sqs(options))).adapter;
}

/** An adapter that all tests of the enclosing `describe` share, with names that are removed after them. */
export function useAdapter(broker: RunningSQS, given: SqsOptions = {}) {
  const place = broker.newNamespace();
  const options = optionsOf(broker, place, given);
  let shared: SqsAdapter | undefined;
  beforeAll(async () => {
    shared = await openAdapter(options);
  });
  afterAll(async () => {
    await shared?.close();
    await place.remove();
  });
  const adapter = (): SqsAdapter => {
    if (shared === undefined) throw new Error("the adapter is opened before the first test, and not earlier");
    return shared;
  };
  return { place, options, adapter };
}

/** Takes messages from a source and settles none of them. */
export async function taking(
  adapter: SqsAdapter,
  from: Source,
  prefetch = 10,
): Promise<{ readonly inbox: Inbox; readonly receiver: Receiver }> {
  const inbox = new Inbox();
  const receiver = await adapter.receive(from, { prefetch, ordered: false }, inbox);
  return { inbox, receiver };
}
