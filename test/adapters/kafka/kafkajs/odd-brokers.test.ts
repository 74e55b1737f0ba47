import type { SASLOptions } from "kafkajs";
import Encoder from "kafkajs/src/protocol/encoder.js";
import { describe, expect, test } from "vitest";
import { KafkaAdapter } from "../../../../adapters/kafka/adapter.ts";
import { kafkaJsClient } from "../../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { AnswerReader } from "../../../../adapters/kafka/kafkajs/exchange.ts";
import { heartbeat } from "../../../../adapters/kafka/kafkajs/group-exchanges.ts";
import { fetch } from "../../../../adapters/kafka/kafkajs/log-exchanges.ts";
import { freePort } from "../../../brokers/free-port.ts";
import { until } from "../../../brokers/until.ts";
import { API, cluster, type Reply, type Script, scriptedBroker, versions } from "./scripted-broker.ts";
import { batchOf, connectionTo, refusal } from "./wire.ts";

const LONG = { connectionTimeoutMs: 60_000, requestTimeoutMs: 60_000 };
const SHORT = { connectionTimeoutMs: 2_000, requestTimeoutMs: 2_000 };
const produced =
  (error: number, offset: bigint): Reply =>
  (to) => {
    to.writeInt32(1).writeString("t").writeInt32(1).writeInt32(0).writeInt16(error);
    to.writeInt64(offset).writeInt64(-1).writeInt64(0).writeInt32(0);
  };

/** What stands committed in partitions 0 and 1, as each way of asking is answered. */
const COMMITTED: Readonly<Record<string, (offset: bigint) => Reply>> = {
  classic: (offset) => (to) => {
    to.writeInt32(0).writeInt32(1).writeString("t").writeInt32(2);
    for (const [partition, at] of [offset, 5n].entries()) {
      to.writeInt32(partition).writeInt64(at).writeString("").writeInt16(0);
    }
    to.writeInt16(0);
  },
  groups: (offset) => (to) => {
    const [one, two] = [2, 3];
    to.writeUVarInt(0).writeInt32(0).writeUVarInt(one).writeUVarIntString("g");
    to.writeUVarInt(one).writeUVarIntString("t").writeUVarInt(two);
    for (const [partition, at] of [offset, 5n].entries()) {
      to.writeInt32(partition).writeInt64(at).writeInt32(0).writeUVarIntString("").writeInt16(0).writeUVarInt(0);
    }
    to.writeUVarInt(0).writeInt16(0).writeUVarInt(0).writeUVarInt(0);
  },
};

describe("brokers that answer in odd ways", () => {
  test.for([
    [2n ** 53n + 1n, Number.MAX_SAFE_INTEGER],
    [2n ** 63n - 1n, Number.MAX_SAFE_INTEGER],
    [-(2n ** 63n), Number.MIN_SAFE_INTEGER],
  ] as const)("a committed offset of %s is one beyond every log, and says nothing of others", async ([at, read]) => {
    const places = [0, 1].map((partition) => ({ topic: "t", partition }));
    const wanted = [
      { partition: 0, offset: read, error: undefined },
      { partition: 1, offset: 5, error: undefined },
    ];
    const replies = Object.values(COMMITTED).map((reply) => reply(at));
    const OFFSET_FETCH = 9;
    const { port } = await scriptedBroker(({ key }) => (key === OFFSET_FETCH ? replies.shift() : undefined));
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    expect((await connection.fetchOffsets(1, "g", places)).offsets).toMatchObject(wanted);
    expect(await connection.fetchGroupsOffsets(1, ["g"], places)).toMatchObject([{ group: "g", offsets: wanted }]);
    await connection.close();
  });

  /** What comes of producing to a broker that answers so, at first; then well. */
  async function produce(...replies: Reply[]) {
    const { port } = await scriptedBroker(({ key }) =>
      key === API.produce ? (replies.shift() ?? produced(0, 7n)) : undefined,
    );
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const send = () => connection.produce(1, [batchOf("t", 0, "x")], 100);
    return { connection, send };
  }

  test("an error that kafkajs does not know has its number for a name", async () => {
    const { connection, send } = await produce(produced(119, -1n));
    expect(await send()).toEqual([{ topic: "t", partition: 0, error: "UNKNOWN_119", baseOffset: -1 }]);
    await connection.close();
  });

  test.for<[string, Reply]>([
    ["is cut short", (to) => to.writeInt32(1).writeString("t").writeInt32(1)],
    ["says nothing of what was asked", (to) => to.writeInt32(0).writeInt32(0)],
    ["has an offset beyond safe integers", produced(0, 2n ** 53n)],
    ["is the end of the connection", "close"],
  ])("an answer that %s is none: unreachable, and the next goes over a new connection", async ([, reply]) => {
    const { connection, send } = await produce(reply);
    expect(await refusal(send())).toMatchObject({ code: "unreachable" });
    expect(await send()).toMatchObject([{ error: undefined, baseOffset: 7 }]);
    await connection.close();
  });

  test("a broker that names itself by an address that does not lead to it is named with the one that does", async () => {
    const wrong = await freePort();
    const { port } = await scriptedBroker(({ key }) =>
      key === API.metadata ? (to) => cluster(to, "127.0.0.1", wrong) : undefined,
    );
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const { message } = await refusal(connection.produce(1, [batchOf("t", 0, "x")], 100));
    expect(message).toContain(`Kafka at 127.0.0.1:${wrong} cannot be reached (ECONNREFUSED)`);
    expect(message).toContain(
      `Kafka at 127.0.0.1:${port} names it so in its metadata: check advertised.listeners there`,
    );
    await connection.close();
  });

  test("an address that is none is not tried, and is shown on one line and not at any length", async () => {
    const foul = `\u001b[2J\n\u202e${"x".repeat(20_000)}`;
    const { port } = await scriptedBroker(({ key }) =>
      key === API.metadata ? (to) => cluster(to, foul, 9092) : undefined,
    );
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const error = await refusal(connection.produce(1, [batchOf("t", 0, "x")], 100));
    expect([error.code, error.cause]).toEqual(["unreachable", undefined]);
    expect(error.message).toMatch(
      /^Kafka at \?\[2J\?\?x{248}…:9092 is no address; Kafka at 127\.0\.0\.1:\d+ names it so/,
    );
    expect(error.message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    await connection.close();
  });

  test("requests leave in the order in which they were made, whatever their size", async () => {
    const { port, asked } = await scriptedBroker(({ key }) => (key === API.produce ? produced(0, 0n) : undefined));
    const connection = connectionTo([`127.0.0.1:${port}`]);
    const batches = [10, 3_000_000, 5, 400_000, 20, 30].map((size) => batchOf("t", 0, "x".repeat(size)));
    const sendAll = () => batches.map((batch) => connection.produce(1, [batch], 100));
    // Some before it is open, some as soon as it is.
    const [first, ...others] = sendAll();
    const second = first?.then(() => Promise.all(sendAll()));
    await Promise.all([...others, second]);
    const around = 27;
    const lengths = asked.filter(({ key }) => key === API.produce).map(({ body }) => body.length - around);
    const made = batches.map(({ batch }) => batch.length);
    expect(lengths).toEqual([...made, ...made]);
    await connection.close();
  });

  test("what one holds back holds up nobody else, and ends for whom it asked alone", async () => {
    const OFFSET_COMMIT = 8;
    const held: readonly number[] = [API.produce, API.fetch, API.joinGroup, API.syncGroup, OFFSET_COMMIT];
    const { port, asked } = await scriptedBroker(({ key }) => {
      if (held.includes(key)) return "nothing";
      return key === API.heartbeat ? (to) => to.writeInt32(0).writeInt16(0) : undefined;
    });
    const client = kafkaJsClient({ brokers: [`127.0.0.1:${port}`], clientId: "wire-test", ...LONG });
    const [stuck, other] = [client.connection(), client.connection()];
    const member = { group: "g", memberId: "m", generation: 1 };
    const topicId = Buffer.alloc(16, 1).toString("base64url");
    const poll = { topic: "t", topicId, partition: 0, offset: 0, maxBytes: 100 };
    const request = { maxWaitMs: 60_000, minBytes: 1, maxBytes: 100, partitions: [poll] };
    const join = {
      ...member,
      sessionTimeoutMs: 1,
      rebalanceTimeoutMs: 60_000,
      protocol: "p",
      metadata: Buffer.alloc(0),
    };
    const offsets = [{ topic: "t", partition: 0, offset: 1, metadata: "" }];
    const refused = [
      stuck.produce(1, [batchOf("t", 0, "x")], 60_000),
      stuck.fetch(1, request),
      stuck.joinGroup(1, join),
      stuck.syncGroup(1, { ...member, assignments: [] }),
      stuck.commitOffsets(1, { ...member, offsets }),
    ].map(refusal);
    await until("all to be asked", 30_000, async () => {
      expect(new Set(asked.map(({ key }) => key))).toEqual(new Set([API.metadata, API.apiVersions, ...held]));
    });
    const theirs = refusal(other.fetch(1, { ...request, partitions: [{ ...poll, partition: 1 }] }));
    expect(await other.heartbeat(1, member)).toBeUndefined();
    expect(await stuck.heartbeat(1, member)).toBeUndefined();
    await stuck.close();
    expect((await Promise.all(refused)).map(({ message }) => message)).toEqual(
      refused.map(() => "this connection to Kafka has been closed; open another"),
    );
    expect(await refusal(stuck.heartbeat(1, member))).toMatchObject({ code: "unreachable" });
    expect(await other.heartbeat(1, member)).toBeUndefined();
    await other.close();
    expect(await theirs).toMatchObject({ code: "unreachable" });
  });

  test("one that slows us down by a quota may be silent for as long as it said", async () => {
    const slowed: Reply = (to) => {
      to.writeInt32(1).writeString("t").writeInt32(1).writeInt32(0).writeInt16(0);
      to.writeInt64(7n).writeInt64(-1).writeInt64(0).writeInt32(60_000);
    };
    const { connection, send } = await produce(slowed, "nothing");
    expect(await send()).toMatchObject([{ baseOffset: 7 }]);
    const second = send();
    const patient = new Promise((resolve) => setTimeout(resolve, SHORT.requestTimeoutMs + 1_000, "waits"));
    expect(await Promise.race([second.catch(() => "given up"), patient])).toBe("waits");
    await connection.close();
    expect(await refusal(second)).toMatchObject({ code: "unreachable" });
  });

  /** The answer to a poll that says nothing but how long to wait. */
  const throttled =
    (ms: number) =>
    (to: Encoder): void => {
      to.writeUVarInt(0).writeInt32(ms).writeInt16(0).writeInt32(0).writeUVarInt(1).writeUVarInt(0);
    };

  test("a throttle of 24 days is believed for 60 s, whichever request it answers", async () => {
    const polled = new Encoder();
    throttled(2 ** 31 - 1)(polled);
    const ofPoll = new AnswerReader(polled.buffer.subarray(1));
    expect(fetch({ maxWaitMs: 0, minBytes: 0, maxBytes: 0, partitions: [] }).read(ofPoll).throttledMs).toBe(60_000);
    const beat = new Encoder().writeInt32(2 ** 31 - 1).writeInt16(0);
    const ofBeat = new AnswerReader(beat.buffer);
    heartbeat({ group: "g", memberId: "m", generation: 1 }).read(ofBeat);
    expect(ofBeat.throttledMs).toBe(60_000);
  });

  test("a throttle ends with the session in which it was said", async () => {
    const { port, asked } = await scriptedBroker(({ key }) => (key === API.fetch ? throttled(60_000) : undefined));
    const client = kafkaJsClient({ brokers: [`127.0.0.1:${port}`], clientId: "wire-test", ...SHORT });
    const topicId = Buffer.alloc(16, 1).toString("base64url");
    const partitions = [{ topic: "t", topicId, partition: 0, offset: 0, maxBytes: 100 }];
    const request = { maxWaitMs: 0, minBytes: 1, maxBytes: 100, partitions };
    const polls = () => asked.filter(({ key }) => key === API.fetch).length;
    const first = client.connection();
    expect(await first.fetch(1, request)).toEqual([]);
    void first.fetch(1, request).catch(() => undefined);
    await new Promise(setImmediate);
    await first.close();
    expect(polls()).toBe(1);
    const second = client.connection();
    expect(await second.fetch(1, request)).toEqual([]);
    expect(polls()).toBe(2);
    await second.close();
  });

  test("one that slows us down says nothing of what is to be read, and is asked again when it said", async () => {
    const polls: number[] = [];
    const { port } = await scriptedBroker(({ key }) => {
      if (key !== API.fetch) return undefined;
      polls.push(performance.now());
      const isFirst = polls.length === 1;
      return (to) => {
        to.writeUVarInt(0)
          .writeInt32(isFirst ? 300 : 0)
          .writeInt16(0)
          .writeInt32(0);
        if (isFirst) to.writeUVarInt(1).writeUVarInt(0);
        else {
          to.writeUVarInt(2).writeBuffer(Buffer.alloc(16, 1)).writeUVarInt(2).writeInt32(0).writeInt16(0);
          for (let count = 0; count < 3; count++) to.writeInt64(0n);
          to.writeUVarInt(1).writeInt32(-1).writeUVarInt(1).writeUVarInt(0).writeUVarInt(0).writeUVarInt(0);
        }
      };
    });
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const topicId = Buffer.alloc(16, 1).toString("base64url");
    const partitions = [{ topic: "t", topicId, partition: 0, offset: 0, maxBytes: 100 }];
    const fetch = () => connection.fetch(1, { maxWaitMs: 0, minBytes: 1, maxBytes: 100, partitions });
    expect(await fetch()).toEqual([]);
    expect(await fetch()).toMatchObject([{ topic: "t", error: undefined }]);
    expect(polls).toHaveLength(2);
    await connection.close();
  });

  test("a request that the server does not speak is unsupported, by name", async () => {
    for (const spoken of [
      [0, 6],
      [9, 13],
    ] as const) {
      const { port } = await scriptedBroker(({ key }) =>
        key === API.apiVersions ? versions({ [API.produce]: spoken }) : undefined,
      );
      const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
      await connection.connect();
      const error = await refusal(connection.produce(1, [batchOf("t", 0, "x")], 100));
      expect(error).toMatchObject({
        code: "unsupported",
        message: expect.stringMatching(/speaks Produce in versions/) as string,
      });
      await connection.close();
    }
  });

  test("a request that the server once said it does not speak is made when it says that it does", async () => {
    // Both sockets hear it when they are opened.
    let lies = 2;
    const { port, asked } = await scriptedBroker(({ key }) => {
      if (key === API.produce) return produced(0, 7n);
      return key === API.apiVersions && lies-- > 0 ? versions({ [API.produce]: [1, 2] }) : undefined;
    });
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    await connection.connect();
    const send = () => connection.produce(1, [batchOf("t", 0, "x")], 100);
    expect(await Promise.all([send(), send()])).toMatchObject([[{ baseOffset: 7 }], [{ baseOffset: 7 }]]);
    await send();
    expect(asked.filter(({ key }) => key === API.apiVersions)).toHaveLength(3);
    await connection.close();
  });

  test.for<[string, number, SASLOptions | undefined]>([
    ["Fetch", API.fetch, undefined],
    ["Metadata", API.metadata, undefined],
    ["SaslAuthenticate", API.saslAuthenticate, { mechanism: "plain", username: "ada", password: "secret" }],
  ])("one that once says that it does not speak %s is asked again on another socket", async ([, lied, sasl]) => {
    for (const isConnected of [false, true]) {
      let lies = 1;
      const { port } = await scriptedBroker(({ key }) => {
        if (key === API.produce) return produced(0, 7n);
        if (key === API.saslHandshake) return (to) => to.writeInt16(0).writeInt32(1).writeString("PLAIN");
        if (key === API.saslAuthenticate) {
          return (to) => to.writeInt16(0).writeString(null).writeBytes(Buffer.alloc(0)).writeInt64(0);
        }
        return key === API.apiVersions && lies-- > 0 ? versions({ [lied]: [20, 21] }) : undefined;
      });
      const connection = connectionTo([`127.0.0.1:${port}`], { ...SHORT, ...(sasl && { sasl }) });
      if (isConnected) await connection.connect();
      // Then to the socket that is opened for this.
      lies = 1;
      await connection.produce(1, [batchOf("t", 0, "x")], 100);
      await connection.close();
    }
  });

  test.for<[string, number, readonly [number, number]]>([
    ["Fetch", 1, [4, 12]],
    ["Metadata", 3, [0, 9]],
  ])(
    "a server that cannot tell topics from others of their names is refused at once: %s",
    async ([name, key, spoken]) => {
      const { port } = await scriptedBroker((asked) =>
        asked.key === API.apiVersions ? versions({ [key]: spoken }) : undefined,
      );
      const connection = connectionTo([`127.0.0.1:${port}`, `localhost:${port}`], SHORT);
      const error = await refusal(connection.connect());
      expect(error.code).toBe("unsupported");
      expect(error.message).toContain(`speaks ${name} in versions ${spoken[0]} to ${spoken[1]}`);
      expect(error.message).toContain("Kafka 3.1 or later");
      await connection.close();
    },
  );

  test("a server that is no Kafka is unreachable", async () => {
    const silent = await scriptedBroker(() => "nothing");
    const rude = await scriptedBroker(() => "close");
    const garbled = await scriptedBroker(() => (to) => to.writeInt16(0).writeInt32(1_000_000));
    for (const { port } of [silent, rude, garbled]) {
      const connection = connectionTo([`127.0.0.1:${port}`], { ...SHORT, connectionTimeoutMs: 500 });
      const error = await refusal(connection.connect());
      expect(error).toMatchObject({ code: "unreachable" });
      // Nothing but a connection was asked for.
      expect(error.message).not.toContain("may have been done");
      await connection.close();
    }
  });

  test("a broker whose address changed is looked for again", async () => {
    let home = 0;
    const metadata: Reply = (to) => cluster(to, "127.0.0.1", home);
    const script: Script = ({ key }) =>
      key === API.metadata ? metadata : key === API.produce ? produced(0, 7n) : undefined;
    const [seed, moved] = [await scriptedBroker(script), await scriptedBroker(script)];
    home = 1;
    const connection = connectionTo([`127.0.0.1:${seed.port}`], SHORT);
    const send = () => connection.produce(1, [batchOf("t", 0, "x")], 100);
    expect(await refusal(send())).toMatchObject({ code: "unreachable" });
    home = moved.port;
    expect(await send()).toMatchObject([{ error: undefined }]);
    await connection.close();
  });

  test("one that closes without a word is told with what it may want", async () => {
    const { port } = await scriptedBroker(({ key }) => (key === API.metadata ? "close" : undefined));
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const { message } = await refusal(connection.metadata([]));
    expect(message).toContain(`Kafka at 127.0.0.1:${port} ended the connection before it answered`);
    expect(message).toContain("this client speaks no TLS (ssl) and does not log in (sasl); check");
    await connection.close();
  });

  test("where a broker names an address that is none, topics are listed all the same, and who named it is told", async () => {
    const { port, asked } = await scriptedBroker(({ key }) =>
      key === API.metadata ? (to) => cluster(to, "nowhere.invalid", 9092, ["orders.queue", "orders.dlq"]) : undefined,
    );
    const adapter = new KafkaAdapter({ brokers: `127.0.0.1:${port}`, requestTimeoutMs: 2_000 });
    expect(await adapter.list()).toEqual([{ kind: "queue", name: "orders" }]);
    const [everything] = asked.filter(({ key }) => key === API.metadata).map(({ body }) => body);
    // After the header's tags: an array that is null asks for all.
    expect(everything?.subarray(0, 2)).toEqual(Buffer.from([0, 0]));
    const { message } = await refusal(adapter.serverCount());
    expect(message).toMatch(/^Kafka at nowhere\.invalid:9092 cannot be reached \(/);
    expect(message).toContain(
      `Kafka at 127.0.0.1:${port} names it so in its metadata: check advertised.listeners there`,
    );
  });

  test("addresses may be of IPv6", async () => {
    const { port } = await scriptedBroker(({ key }) => (key === API.produce ? produced(0, 7n) : undefined), {
      host: "::1",
    });
    const connection = connectionTo([`[::1]:${port}`], SHORT);
    expect(await connection.produce(1, [batchOf("t", 0, "x")], 100)).toMatchObject([{ error: undefined }]);
    await connection.close();
  });
});
