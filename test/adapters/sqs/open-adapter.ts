import { type SqsAdapter, type SqsOptions, sqs } from "../../../adapters/sqs/index.ts";
import type { QueueDeclaration, Receiver, SubscriptionDeclaration, Topology } from "../../../core/adapter.ts";
import type { Source } from "../../../core/address.ts";
import type { Namespace } from "../../brokers/sqs/namespace.ts";
import type { RunningSQS } from "../../brokers/sqs/running-sqs.ts";
import { describeElasticMQ, describeFauxqs } from "../../brokers/suite.ts";
import { Inbox } from "../../sqs/opened.ts";

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
  const adapter = sqs(options);
  const nothing = () => undefined;
  await adapter.open({ up: nothing, down: nothing, blocked: nothing, unblocked: nothing, notice: nothing });
  return adapter;
}

/** Takes messages from a source and settles none of them. */
export async function taking(
  adapter: SqsAdapter,
  from: Source,
  window = 10,
): Promise<{ readonly inbox: Inbox; readonly receiver: Receiver }> {
  const inbox = new Inbox();
  const receiver = await adapter.receive(from, { window, ordered: false }, inbox);
  return { inbox, receiver };
}

export function workQueue(name: string, ordered = false): QueueDeclaration {
  return { address: { kind: "queue", name }, ordered, priorities: 1 };
}

export function subscriptionOf(topic: string, name: string, filter?: string): SubscriptionDeclaration {
  return {
    address: { kind: "subscription", topic, name },
    ordered: false,
    from: "now",
    ...(filter === undefined ? {} : { filter }),
  };
}

/** A topology to create, unless told otherwise. */
export function topology(given: Partial<Topology>): Topology {
  return { mode: "create", queues: [], topics: [], subscriptions: [], ...given };
}
