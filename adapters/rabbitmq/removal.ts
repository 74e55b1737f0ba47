import type { Topology } from "../../core/adapter.ts";
import { withChannel } from "./channels.ts";
import { operationError } from "./errors.ts";
import type { Link } from "./link.ts";
import { deadLettersOf, exchangeName, quarantineOf, queueName } from "./names.ts";

/** Deletes the queues and exchanges of a topology; to RabbitMQ, one that does not stand is deleted already. */
export async function removeAll(link: Link, topology: Topology, requestTimeoutMs: number): Promise<void> {
  const work = [...topology.queues, ...topology.subscriptions].map(({ address }) => address);
  const queues = work.flatMap((of) => [queueName(of), deadLettersOf(of), quarantineOf(of)]);
  const exchanges = topology.topics.map(({ address }) => exchangeName(address.name));
  for (const name of queues) await remove(`queue ${name}`, (channel) => channel.deleteQueue(name));
  for (const name of exchanges) await remove(`exchange ${name}`, (channel) => channel.deleteExchange(name));

  async function remove(thing: string, use: Parameters<typeof withChannel<unknown>>[3]): Promise<void> {
    const what = `remove ${thing}`;
    try {
      await withChannel(link, requestTimeoutMs, what, use);
    } catch (error) {
      throw operationError(error, what, "remove it by hand");
    }
  }
}
