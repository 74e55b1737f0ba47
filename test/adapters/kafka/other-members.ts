import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { BrokerSocket } from "../../../adapters/kafka/kafkajs/broker-socket.ts";
import {
  type Exchange,
  errorName,
  readCompactArray,
  readCompactText,
  readTopicId,
  skipTags,
  writeCompactArray,
  writeTags,
  writeTopicId,
} from "../../../adapters/kafka/kafkajs/exchange.ts";
import type { ErrorName, TopicId } from "../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../core/errors.ts";

const [CONSUMER_GROUP_HEARTBEAT, SHARE_GROUP_HEARTBEAT, ALTER_SHARE_GROUP_OFFSETS] = [68, 76, 91];
const LEAVE = -1;
const EVERY_MS = 200;

interface Owned {
  readonly topicId: TopicId;
  readonly partitions: readonly number[];
}

interface Answer {
  readonly error: ErrorName;
  readonly epoch: number;
  readonly assigned: readonly Owned[] | undefined;
}

/** A member of a group by a protocol in which the server assigns partitions: KIP-848, or that of share groups. */
export class OtherMember {
  readonly #socket: BrokerSocket;
  readonly #kind: "consumer" | "share";
  readonly #group: string;
  readonly #topics: readonly string[];
  readonly #memberId = randomUUID();
  #epoch = 0;
  #owned: readonly Owned[] = [];
  #isClosed = false;
  #beating: Promise<void> = Promise.resolve();
  /** What the coordinator refused last. */
  error: ErrorName;

  private constructor(broker: string, kind: "consumer" | "share", group: string, topics: readonly string[]) {
    this.#socket = socketTo(broker);
    this.#kind = kind;
    this.#group = group;
    this.#topics = topics;
  }

  /** Joins; resolves when the coordinator has answered once. */
  static async join(
    broker: string,
    kind: "consumer" | "share",
    group: string,
    topics: readonly string[],
  ): Promise<OtherMember> {
    const member = new OtherMember(broker, kind, group, topics);
    await member.#beat(0);
    member.#beating = member.#goOn();
    return member;
  }

  /** How many partitions it has. */
  get size(): number {
    return this.#owned.reduce((sum, { partitions }) => sum + partitions.length, 0);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#beating;
    await this.#beat(LEAVE);
    await this.#socket.end(new MessagingError("unreachable", "the member was closed"));
  }

  async #goOn(): Promise<void> {
    while (!this.#isClosed) {
      await sleep(EVERY_MS);
      if (!this.#isClosed) await this.#beat(this.#epoch);
    }
  }

  async #beat(epoch: number): Promise<void> {
    const heartbeat = this.#kind === "consumer" ? this.#consumerHeartbeat(epoch) : this.#shareHeartbeat(epoch);
    const { error, epoch: next, assigned } = await this.#socket.ask(heartbeat);
    this.error = error;
    // Fenced, or never taken in: it begins anew.
    this.#epoch = error === undefined ? next : 0;
    this.#owned = error === undefined ? (assigned ?? this.#owned) : [];
  }

  #consumerHeartbeat(epoch: number): Exchange<Answer> {
    return {
      name: "ConsumerGroupHeartbeat",
      key: CONSUMER_GROUP_HEARTBEAT,
      version: 1,
      flexible: true,
      write: (to) => {
        to.writeUVarIntString(this.#group).writeUVarIntString(this.#memberId).writeInt32(epoch);
        to.writeUVarIntString(null).writeUVarIntString(null).writeInt32(30_000);
        writeCompactArray(to, this.#topics, (topic) => void to.writeUVarIntString(topic));
        to.writeUVarIntString(null).writeUVarIntString(null);
        writeCompactArray(to, epoch === 0 ? [] : this.#owned, ({ topicId, partitions }) => {
          writeTopicId(to, topicId);
          writeCompactArray(to, partitions, (partition) => void to.writeInt32(partition));
          writeTags(to);
        });
        writeTags(to);
      },
      read,
    };
  }

  #shareHeartbeat(epoch: number): Exchange<Answer> {
    return {
      name: "ShareGroupHeartbeat",
      key: SHARE_GROUP_HEARTBEAT,
      version: 1,
      flexible: true,
      write: (to) => {
        to.writeUVarIntString(this.#group).writeUVarIntString(this.#memberId).writeInt32(epoch);
        to.writeUVarIntString(null);
        writeCompactArray(to, this.#topics, (topic) => void to.writeUVarIntString(topic));
        writeTags(to);
      },
      read,
    };
  }
}

const read: Exchange<Answer>["read"] = (from) => {
  from.readInt32();
  const error = errorName(from.readInt16());
  readCompactText(from);
  readCompactText(from);
  const epoch = from.readInt32();
  from.readInt32();
  if (from.readInt8() < 0) return { error, epoch, assigned: undefined };
  const assigned = readCompactArray(from, () => {
    const owned = { topicId: readTopicId(from), partitions: readCompactArray(from, () => from.readInt32()) };
    skipTags(from);
    return owned;
  });
  return { error, epoch, assigned };
};

/** Sets from where a share group reads the first partition of a topic. Resolves with what the server refused. */
export async function alterShareOffset(
  broker: string,
  group: string,
  topic: string,
  offset: number,
): Promise<ErrorName> {
  const socket = socketTo(broker);
  const request: Exchange<ErrorName> = {
    name: "AlterShareGroupOffsets",
    key: ALTER_SHARE_GROUP_OFFSETS,
    version: 0,
    flexible: true,
    write: (to) => {
      to.writeUVarIntString(group);
      writeCompactArray(to, [topic], (one) => {
        to.writeUVarIntString(one);
        writeCompactArray(to, [0], (partition) => {
          to.writeInt32(partition).writeInt64(offset);
          writeTags(to);
        });
        writeTags(to);
      });
      writeTags(to);
    },
    read: (from) => {
      from.readInt32();
      const error = errorName(from.readInt16());
      readCompactText(from);
      const [refused] = readCompactArray(from, () => {
        readCompactText(from);
        readTopicId(from);
        const errors = readCompactArray(from, () => {
          from.readInt32();
          const one = errorName(from.readInt16());
          readCompactText(from);
          skipTags(from);
          return one;
        });
        skipTags(from);
        return errors.find((one) => one !== undefined);
      });
      return error ?? refused;
    },
  };
  try {
    return await socket.ask(request);
  } finally {
    await socket.end(new MessagingError("unreachable", "it was closed"));
  }
}

function socketTo(broker: string): BrokerSocket {
  const { hostname: host, port } = new URL(`kafka://${broker}`);
  const timeouts = { connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 };
  const settings = { clientId: "other-client", tls: undefined, sasl: undefined, ...timeouts };
  return new BrokerSocket(
    settings,
    async () => ({ host, port: Number(port) }),
    () => undefined,
  );
}
