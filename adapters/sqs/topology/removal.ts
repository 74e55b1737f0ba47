import { DeleteTopicCommand } from "@aws-sdk/client-sns";
import { DeleteQueueCommand } from "@aws-sdk/client-sqs";
import type { Topology } from "../../../core/adapter.ts";
import { type Address, describeAddress } from "../../../core/address.ts";
import { isMessagingError } from "../../../core/errors.ts";
import type { Clients } from "../clients.ts";
import { asMessagingError, isMissing } from "../errors.ts";
import type { Registry } from "../registry.ts";

/** Deletes the queues and SNS topics of a topology that stand; with a topic go its subscriptions. */
export async function removeAll({ control }: Clients, registry: Registry, topology: Topology): Promise<void> {
  const work = [...topology.queues, ...topology.subscriptions].map(({ address }) => address);
  const queues = work.flatMap((of): Address[] => [of, { kind: "dead-letters", of }, { kind: "quarantine", of }]);
  await Promise.all([...topology.topics.map(({ address }) => address), ...queues].map((address) => remove(address)));

  async function remove(address: Address): Promise<void> {
    try {
      const { kind, locator } = await registry.find(address);
      if (kind === "topic") await control.sns.send(new DeleteTopicCommand({ TopicArn: locator }));
      else await control.sqs.send(new DeleteQueueCommand({ QueueUrl: locator }));
    } catch (error) {
      if (isMessagingError(error, "not-found") || isMissing(error)) return;
      throw asMessagingError(`removing ${describeAddress(address)}`, error);
    } finally {
      registry.forget(address);
    }
  }
}
