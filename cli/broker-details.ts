import type { KafkaAdapter } from "../adapters/kafka/index.ts";
import type { RabbitMQAdapter } from "../adapters/rabbitmq/index.ts";
import type { Adapter, Depth } from "../core/adapter.ts";
import { addressName, type WorkAddress } from "../core/address.ts";

/** What a server says of itself. */
export interface ServerDetails {
  /** Null where the protocol does not tell. */
  readonly version: string | null;
  /** How many servers there are, where that is told. */
  readonly servers: number | null;
}

/** What the server of an open adapter says of itself: by the client's own means, since the brokers have nothing in common here. */
export async function serverDetails(adapter: Adapter): Promise<ServerDetails> {
  if (adapter.name === "rabbitmq") {
    const { version } = (adapter as RabbitMQAdapter).connections.publishing?.connection.serverProperties ?? {};
    return { version: version ?? null, servers: null };
  }
  if (adapter.name === "kafka") {
    return withAdmin(adapter as KafkaAdapter, async (admin) => {
      const { brokers } = await admin.describeCluster();
      return { version: null, servers: brokers.length };
    });
  }
  return { version: null, servers: null };
}

/** How many consumers a queue or subscription has, in all processes; null where the broker does not tell. */
export async function consumersOf(adapter: Adapter, of: WorkAddress): Promise<number | null> {
  const name = addressName(of);
  if (adapter.name === "rabbitmq") {
    const channel = await (adapter as RabbitMQAdapter).connections.consuming?.createChannel();
    if (channel === undefined) return null;
    channel.on("error", () => {});
    try {
      return (await channel.checkQueue(name)).consumerCount;
    } finally {
      await channel.close().catch(() => {});
    }
  }
  if (adapter.name === "kafka") {
    return withAdmin(adapter as KafkaAdapter, async (admin) => {
      const { groups } = await admin.describeGroups([name]);
      return groups[0]?.members.length ?? 0;
    });
  }
  return null;
}

type KafkaAdmin = ReturnType<ReturnType<KafkaAdapter["kafkajs"]>["admin"]>;

async function withAdmin<Result>(adapter: KafkaAdapter, use: (admin: KafkaAdmin) => Promise<Result>): Promise<Result> {
  const admin = adapter.kafkajs().admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

/** All that stands at an address, unsettled deliveries included. */
export function standingCount({ ready, unsettled = 0 }: Depth): number {
  return ready + unsettled;
}
