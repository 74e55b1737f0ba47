import type { GroupMember } from "../../../adapters/kafka/group/coordinator.ts";
import { openMember } from "../../../adapters/kafka/group/member.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { partitionKey } from "../../../adapters/kafka/names.ts";
import type { KafkaClient, KafkaConnection, TopicPartition } from "../../../adapters/kafka/port.ts";
import { systemClock, systemRandom } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";

/** A member, and everything that it was told. */
export interface OpenMember {
  readonly member: GroupMember;
  /** What it believes to have. */
  readonly held: ReadonlySet<string>;
  readonly revoked: readonly string[];
  readonly lost: readonly string[];
  readonly failures: readonly MessagingError[];
  /** As if its process were killed: its sockets close, and it says nothing any more. */
  kill(): Promise<void>;
}

export interface MembersOptions {
  readonly group: string;
  readonly topics: readonly string[];
  readonly sessionTimeoutMs: number;
}

/** Members of one group on a real server, and whoever watches that no two have the same partition. */
export class OpenMembers {
  readonly #options: MembersOptions;
  readonly #through: (own: KafkaConnection) => Partial<KafkaConnection>;
  readonly #open = new Set<OpenMember>();
  /** Partitions that were given to one while another still had them. */
  readonly collisions: string[] = [];

  /** `through` changes what members get of the server. */
  constructor(options: MembersOptions, through: (own: KafkaConnection) => Partial<KafkaConnection> = () => ({})) {
    this.#options = options;
    this.#through = through;
  }

  get open(): readonly OpenMember[] {
    return [...this.#open];
  }

  join(brokers: readonly string[]): OpenMember {
    const held = new Set<string>();
    const revoked: string[] = [];
    const lost: string[] = [];
    const failures: MessagingError[] = [];
    const connections: KafkaConnection[] = [];
    const client = remembering(brokers, connections, this.#through);
    let isDead = false;
    const drop = (partitions: readonly TopicPartition[]): void => {
      for (const partition of partitions) held.delete(partitionKey(partition));
    };
    const member = openMember({
      client,
      ...this.#options,
      rebalanceTimeoutMs: 20_000,
      heartbeatMs: 500,
      clock: systemClock(),
      random: systemRandom(),
      listener: {
        assigned: (partitions) => {
          for (const key of partitions.map(partitionKey)) {
            const others = this.open.filter((other) => other !== opened && other.held.has(key));
            if (others.length > 0) this.collisions.push(key);
            held.add(key);
          }
        },
        revoke: async (partitions) => {
          revoked.push(...partitions.map(partitionKey));
          drop(partitions);
        },
        lost: (partitions) => {
          lost.push(...partitions.map(partitionKey));
          drop(partitions);
        },
        failed: (cause) => void failures.push(cause),
      },
    });
    const end = async (): Promise<void> => {
      this.#open.delete(opened);
      held.clear();
      // The first to close its connections, so that its own good-bye is not heard.
      if (isDead) await Promise.all(connections.map((connection) => connection.close()));
      await member.close();
    };
    const opened: OpenMember = {
      member: { ...bound(member), close: end },
      held,
      revoked,
      lost,
      failures,
      kill: () => {
        isDead = true;
        return end();
      },
    };
    this.#open.add(opened);
    return opened;
  }

  /** Throws unless every partition is held once, and nobody holds two more than another. */
  expectBalance(partitions: number, members: number): void {
    const sizes = this.open.map(({ held }) => held.size);
    const all = new Set(this.open.flatMap(({ held }) => [...held]));
    const total = sizes.reduce((one, other) => one + other, 0);
    const isSpread = Math.max(...sizes) - Math.min(...sizes) <= 1;
    if (sizes.length === members && all.size === partitions && total === partitions && isSpread) return;
    throw new Error(`${sizes.length} members hold ${sizes.join(", ")} partitions`);
  }
}

function bound(member: GroupMember): GroupMember {
  return {
    complete: member.complete,
    commit: (offsets) => member.commit(offsets),
    committed: (partitions) => member.committed(partitions),
    refresh: () => member.refresh(),
    close: () => member.close(),
  };
}

function remembering(
  brokers: readonly string[],
  connections: KafkaConnection[],
  through: (own: KafkaConnection) => Partial<KafkaConnection>,
): KafkaClient {
  const timeouts = { connectionTimeoutMs: 5_000, requestTimeoutMs: 10_000 };
  const client = kafkaJsClient({ brokers, clientId: "group-test", ...timeouts });
  return {
    connection: () => {
      const connection = client.connection();
      connections.push(connection);
      const changed = through(connection);
      return new Proxy(connection, {
        get: (own, name) => {
          const use: unknown = Reflect.get(changed, name) ?? Reflect.get(own, name);
          return typeof use === "function" ? use.bind(own) : use;
        },
      });
    },
  };
}
