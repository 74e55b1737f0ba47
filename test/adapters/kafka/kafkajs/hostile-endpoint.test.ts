import { type AddressInfo, createServer, type Socket } from "node:net";
import type { SASLOptions } from "kafkajs";
import { describe, expect, onTestFinished, test } from "vitest";
import { openMember } from "../../../../adapters/kafka/group/member.ts";
import { encodeAssignment, PROTOCOL } from "../../../../adapters/kafka/group/protocol.ts";
import { kafkaJsClient } from "../../../../adapters/kafka/kafkajs/cluster-connection.ts";
import type { JoinRequest, KafkaConnection, TopicPartition } from "../../../../adapters/kafka/port.ts";
import { systemClock, systemRandom } from "../../../../core/clock.ts";
import type { MessagingError } from "../../../../core/errors.ts";
import { eventually } from "../../../eventually.ts";
import { topicId } from "../../../kafka/topic-ids.ts";
import { API, type Reply, type Script, scriptedBroker } from "./scripted-broker.ts";
import { connectionTo, refusal } from "./wire.ts";

const PLAIN: SASLOptions = { mechanism: "plain", username: "ada", password: "secret" };
const SCRAM: SASLOptions = { mechanism: "scram-sha-256", username: "ada", password: "secret" };
const MEMBERSHIP = { group: "g", memberId: "m", generation: 1 };
const JOIN: JoinRequest = {
  group: "g",
  memberId: "m",
  sessionTimeoutMs: 10_000,
  rebalanceTimeoutMs: 10_000,
  protocol: PROTOCOL,
  metadata: Buffer.alloc(0),
};

/** What no Kafka says, whatever was asked. */
const GARBAGE: readonly (readonly [what: string, bytes: Buffer])[] = [
  ["a length of nothing", Buffer.alloc(4)],
  ["a negative length", Buffer.alloc(64, 0xff)],
  ["a length without room for a number", Buffer.from([0, 0, 0, 3, 1, 2, 3])],
  ["a length beyond all others", Buffer.from([0x7f, 0xff, 0xff, 0xff, 0])],
  ["HTTP", Buffer.from("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")],
  ["an alert of TLS", Buffer.from([0x15, 3, 3, 0, 2, 2, 70])],
  ["an answer to another request", Buffer.from([0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0, 0, 0])],
  ["other bytes", Buffer.from("9b1c55e0a7f3d2484c0691b7aa3e", "hex")],
];

/** Answers of a right length to the right request that hold nothing right. */
const MALFORMED: readonly (readonly [what: string, reply: Reply])[] = [
  ["nothing", () => undefined],
  ["lengths that go backwards", (to) => negative(to)],
  ["endless lists", (to) => repeated(() => to.writeInt32(0x7fff_ffff), 16)],
  ["varints without end", (to) => repeated(() => to.writeInt8(-128), 64)],
];

/** As many of kafkajs' readers as there are would walk backwards over these. */
function negative(to: { writeInt16(value: number): unknown; writeInt32(value: number): unknown }): void {
  to.writeInt16(0);
  to.writeInt32(0x7fff_ffff);
  repeated(() => to.writeInt16(-4), 32);
}

function repeated(write: () => unknown, times: number): void {
  for (let count = 0; count < times; count++) write();
}

type Ask = (at: KafkaConnection) => Promise<unknown>;

/** States of a connection: what is asked in it, and how it comes to that. */
const STATES: readonly (readonly [what: string, key: number, ask: Ask, sasl: SASLOptions | undefined])[] = [
  ["ApiVersions", API.apiVersions, (at) => at.connect(), undefined],
  ["SaslHandshake", API.saslHandshake, (at) => at.connect(), PLAIN],
  ["SaslAuthenticate", API.saslAuthenticate, (at) => at.connect(), PLAIN],
  ["SaslAuthenticate by SCRAM", API.saslAuthenticate, (at) => at.connect(), SCRAM],
  ["Metadata", API.metadata, (at) => at.metadata(["t"]), undefined],
  ["Fetch", API.fetch, (at) => at.fetch(1, { maxWaitMs: 0, minBytes: 0, maxBytes: 1, partitions: [FROM] }), undefined],
  ["JoinGroup", API.joinGroup, (at) => at.joinGroup(1, JOIN), undefined],
  ["SyncGroup", API.syncGroup, (at) => at.syncGroup(1, { ...MEMBERSHIP, assignments: [] }), undefined],
  ["Heartbeat", API.heartbeat, (at) => at.heartbeat(1, MEMBERSHIP), undefined],
  ["DescribeGroups", API.describeGroups, (at) => at.describeGroup(1, "g"), undefined],
];
const FROM = { topic: "t", topicId: topicId("t"), partition: 0, offset: 0, maxBytes: 1 };

const greeting: Reply = (to) => to.writeInt16(0).writeInt32(2).writeString("PLAIN").writeString("SCRAM-SHA-256");

/** A broker that says this, and nothing else, where a request of that kind is made. */
const saying =
  (key: number, reply: Reply): Script =>
  (asked) =>
    asked.key === key ? reply : asked.key === API.saslHandshake ? greeting : undefined;

async function refusalIn(script: Script, ask: Ask, sasl?: SASLOptions) {
  const { port } = await scriptedBroker(script);
  const connection = connectionTo([`127.0.0.1:${port}`], sasl === undefined ? {} : { sasl });
  const error = await refusal(ask(connection));
  await connection.close();
  return error;
}

describe.each(STATES)("garbage where %s is to be answered", (_, key, ask, sasl) => {
  test.each(GARBAGE)("%s ends the connection", async (__, bytes) => {
    const error = await refusalIn(saying(key, { bytes }), ask, sasl);
    expect(error).toMatchObject({ code: "unreachable", message: expect.stringContaining("is no Kafka") as string });
  });

  test.each(MALFORMED)("%s in the answer is no more than an answer that says nothing", async (__, reply) => {
    const { port } = await scriptedBroker(saying(key, reply));
    const connection = connectionTo([`127.0.0.1:${port}`], sasl === undefined ? {} : { sasl });
    const outcome = await ask(connection).then(
      () => "an answer",
      (error: MessagingError) => error.message,
    );
    // Some are long enough to say that there was an error.
    expect(outcome).toMatch(/is no Kafka|an answer/);
    if (key !== API.heartbeat && key !== API.fetch) expect(outcome).toContain("is no Kafka");
    await connection.close();
  });
});

test("a server that speaks first is no Kafka", async () => {
  for (const bytes of [Buffer.from("SSH-2.0-OpenSSH_9.7\r\n"), Buffer.from("4a0000000a382e302e333600", "hex")]) {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.write(bytes);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const connection = connectionTo([`127.0.0.1:${(server.address() as AddressInfo).port}`]);
    const error = await refusal(connection.connect());
    expect(error).toMatchObject({ code: "unreachable", message: expect.stringContaining("is no Kafka") as string });
    await connection.close();
  }
});

test.each([-1, 2 ** 31 - 1])("partition %i is none that a cluster has", async (partition) => {
  const [one, none] = [2, 1];
  const reply: Reply = (to) => {
    to.writeUVarInt(0).writeInt32(0).writeUVarInt(none).writeUVarIntString("cluster").writeInt32(1).writeUVarInt(one);
    to.writeInt16(0)
      .writeUVarIntString("t")
      .writeBuffer(Buffer.from(topicId("t"), "base64url"))
      .writeBoolean(false);
    to.writeUVarInt(one).writeInt16(0).writeInt32(partition).writeInt32(1).writeInt32(0);
    to.writeUVarInt(none).writeUVarInt(none).writeUVarInt(none).writeUVarInt(0).writeInt32(0).writeUVarInt(0);
  };
  const error = await refusalIn(saying(API.metadata, reply), (at) => at.metadata(["t"]));
  expect(error).toMatchObject({ code: "unreachable", message: expect.stringContaining("no partition") as string });
});

test("a login that would take hours to compute is not begun", async () => {
  const reply: Reply = (to) => {
    const words = Buffer.from("r=x,s=c2FsdA==,i=2147483647");
    to.writeInt16(0).writeString(null).writeBytes(words).writeInt64(0);
  };
  const error = await refusalIn(saying(API.saslAuthenticate, reply), (at) => at.connect(), SCRAM);
  expect(error).toMatchObject({ code: "unreachable", message: expect.stringContaining("iterations") as string });
});

test("a server without framed logins is refused by name", async () => {
  const versions: Reply = (to) => {
    to.writeInt16(0).writeInt32(3);
    for (const [key, most] of [
      [API.fetch, 13],
      [API.metadata, 10],
      [API.saslHandshake, 1],
    ] as const) {
      to.writeInt16(key).writeInt16(0).writeInt16(most);
    }
  };
  const error = await refusalIn(saying(API.apiVersions, versions), (at) => at.connect(), PLAIN);
  expect(error).toMatchObject({
    code: "unsupported",
    message: expect.stringContaining("SaslAuthenticate") as string,
  });
});

test("frames may come in any pieces", async () => {
  const bytes: Buffer[] = [];
  const pieces = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", async (asked) => {
      const answer = Buffer.concat([asked.subarray(8, 12), apiVersions()]);
      const size = Buffer.alloc(4);
      size.writeInt32BE(answer.length);
      for (const byte of Buffer.concat([size, answer])) bytes.push(Buffer.of(byte));
      for (const byte of bytes.splice(0)) await new Promise((resolve) => socket.write(byte, resolve));
    });
  });
  await new Promise<void>((resolve) => pieces.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void pieces.close());
  const connection = connectionTo([`127.0.0.1:${(pieces.address() as AddressInfo).port}`]);
  await connection.connect();
  await connection.close();
});

/** That of a server which speaks what is needed, without what is around it. */
function apiVersions(): Buffer {
  const answer = Buffer.alloc(2 + 4 + 2 * 6 + 4);
  answer.writeInt32BE(2, 2);
  for (const [index, value] of [API.fetch, 0, 13, API.metadata, 0, 10].entries()) {
    answer.writeInt16BE(value, 6 + index * 2);
  }
  return answer;
}

describe("a member of a group whose coordinator answers garbage", () => {
  const group: Reply = (to) => {
    to.writeInt32(0).writeInt32(1).writeInt16(0).writeString("g").writeString("Empty").writeString("consumer");
    to.writeString("").writeInt32(0);
  };
  const joined: Reply = (to) => {
    to.writeInt32(0).writeInt16(0).writeInt32(1).writeString(PROTOCOL).writeString("leader").writeString("m");
    to.writeInt32(0);
  };
  const synced =
    (assignment: Buffer): Reply =>
    (to) =>
      to.writeInt32(0).writeInt16(0).writeBytes(assignment);
  const invited: Reply = (to) => {
    to.writeInt32(0).writeInt16(79).writeInt32(-1).writeString("").writeString("").writeString("").writeInt32(0);
  };
  const assigned = (...partitions: readonly TopicPartition[]): Buffer =>
    encodeAssignment({ assigned: partitions, taken: [], awaited: 0, topics: [] });

  /** A member that hears this once, and then what is right. */
  async function member(key: number, odd: Reply) {
    const replies = [odd];
    let port = 0;
    const script: Script = (asked) => {
      if (asked.key === API.coordinator) {
        return (to) =>
          to.writeInt32(0).writeInt16(0).writeString(null).writeInt32(1).writeString("127.0.0.1").writeInt32(port);
      }
      if (asked.key === API.describeGroups) return group;
      if (asked.key === key && replies.length > 0) return replies.pop();
      if (asked.key === API.joinGroup) return joined;
      if (asked.key === API.syncGroup) return synced(assigned({ topic: "t", partition: 0 }));
      return asked.key === API.heartbeat || asked.key === API.leaveGroup
        ? (to) => to.writeInt32(0).writeInt16(0)
        : undefined;
    };
    const broker = await scriptedBroker(script);
    port = broker.port;
    const timeouts = { connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 };
    const taken: TopicPartition[] = [];
    const opened = openMember({
      client: kafkaJsClient({ brokers: [`127.0.0.1:${port}`], clientId: "hostile", ...timeouts }),
      group: "g",
      topics: ["t"],
      sessionTimeoutMs: 10_000,
      rebalanceTimeoutMs: 10_000,
      listener: {
        assigned: (partitions) => void taken.push(...partitions),
        revoke: async () => undefined,
        lost: () => undefined,
        failed: () => undefined,
      },
      clock: systemClock(),
      random: systemRandom(),
    });
    opened.complete.catch(() => undefined);
    onTestFinished(() => opened.close());
    return { taken };
  }

  const RIGHT = { topic: "t", partition: 0 };

  test.each([
    ["FindCoordinator", API.coordinator],
    ["DescribeGroups", API.describeGroups],
    ["JoinGroup", API.joinGroup],
    ["SyncGroup", API.syncGroup],
    ["Heartbeat", API.heartbeat],
  ])("comes to its partitions, whatever was answered to %s", async (_, key) => {
    const odd = [...GARBAGE.map(([, bytes]): Reply => ({ bytes })), ...MALFORMED.map(([, reply]) => reply)];
    const members = await Promise.all(odd.map((reply) => member(key, reply)));
    for (const { taken } of members) await eventually(() => expect(taken).toEqual([RIGHT]));
  });

  test.each<[string, number, Reply]>([
    ["an invitation without a name", API.joinGroup, invited],
    ["an assignment of nothing readable", API.syncGroup, synced(Buffer.alloc(64, 0xff))],
    ["a partition twice", API.syncGroup, synced(assigned(RIGHT, RIGHT))],
    ["a negative partition", API.syncGroup, synced(assigned({ topic: "t", partition: -1 }))],
    ["partitions of a topic that it does not read", API.syncGroup, synced(assigned({ topic: "u", partition: 0 }))],
  ])("comes to its partitions after %s", async (_, key, reply) => {
    const { taken } = await member(key, reply);
    await eventually(() => expect(taken).toEqual([RIGHT]));
  });
});
