// A server that is no Kafka, or a hostile one: answers of any bytes, in any pieces.
import { type AddressInfo, createServer } from "node:net";
import fc from "fast-check";
import Encoder from "kafkajs/src/protocol/encoder.js";
import { expect, test } from "vitest";
import * as cluster from "../../adapters/kafka/kafkajs/cluster-exchanges.ts";
import { AnswerReader, type Exchange, skipTags } from "../../adapters/kafka/kafkajs/exchange.ts";
import * as groups from "../../adapters/kafka/kafkajs/group-exchanges.ts";
import * as views from "../../adapters/kafka/kafkajs/group-exchanges.ts";
import { Frames } from "../../adapters/kafka/kafkajs/guarded-connection.ts";
import * as logs from "../../adapters/kafka/kafkajs/log-exchanges.ts";
import { connectionTo, refusal } from "../adapters/kafka/kafkajs/wire.ts";
import { topicId } from "../kafka/topic-ids.ts";
import { fuzzing } from "./runs.ts";

const AT = { topic: "t", topicId: topicId("t"), partition: 0 };
const MEMBERSHIP = { group: "g", memberId: "m", generation: 1 };
const FETCH = { maxWaitMs: 0, minBytes: 0, maxBytes: 1, partitions: [{ ...AT, offset: 0, maxBytes: 1 }] };
const JOIN = { ...MEMBERSHIP, sessionTimeoutMs: 1, rebalanceTimeoutMs: 1, protocol: "p", metadata: Buffer.alloc(0) };

const EXCHANGES: readonly Exchange<unknown>[] = [
  cluster.apiVersions(),
  cluster.metadata(["t"]),
  cluster.clusterRights(),
  cluster.createTopics([], 1),
  cluster.topicConfigurations(["t"], []),
  logs.producerIdentity(),
  logs.produce([{ ...AT, batch: Buffer.alloc(0) }], 1),
  logs.produce([{ ...AT, batch: Buffer.alloc(0) }], 1).later as Exchange<unknown>,
  logs.fetch(FETCH),
  logs.listOffsets([{ ...AT, at: "latest" }]),
  logs.deleteRecords([{ ...AT, offset: 0 }], 1),
  groups.coordinator("g"),
  groups.joinGroup(JOIN),
  groups.syncGroup({ ...MEMBERSHIP, assignments: [] }, 1),
  groups.heartbeat(MEMBERSHIP),
  groups.leaveGroup(MEMBERSHIP),
  groups.commitOffsets({ ...MEMBERSHIP, offsets: [{ ...AT, offset: 0, metadata: "" }] }),
  groups.fetchOffsets("g", [AT]),
  views.describeClassicGroup("g"),
  views.describeConsumerGroup("g"),
  views.listGroups(),
  views.fetchGroupsOffsets(["g"], [AT]),
  views.fetchShareGroupOffsets("g", [AT]),
];

/** Small numbers let a reader get far; others are what it must not believe. */
const number = fc.oneof(fc.constantFrom(0, 0, 1, 1, 2), fc.constantFrom(-1, -2, 0x7f, 0x7fff), fc.integer());
const word = fc.oneof(
  number.map((value) => new Encoder().writeInt32(value).buffer),
  number.map((value) => new Encoder().writeInt16((value << 16) >> 16).buffer),
  number.map((value) => new Encoder().writeInt64(value).buffer),
  number.map((value) => new Encoder().writeUVarInt(value >>> 0).buffer),
  fc.constantFrom("t", "g", "").map((value) => new Encoder().writeString(value).buffer),
  fc.constantFrom("t", "g", "").map((value) => new Encoder().writeUVarIntString(value).buffer),
  fc.constant(Buffer.from(topicId("t"), "base64url")),
  fc.uint8Array({ maxLength: 8 }).map((value) => Buffer.from(value)),
);
const answer = fc.array(word, { maxLength: 40 }).map((words) => Buffer.concat(words));

test.each(EXCHANGES.map((exchange) => [exchange.name, exchange] as const))(
  "whatever is answered to %s, it is read or refused",
  (_, exchange) => {
    fc.assert(
      fc.property(answer, (bytes) => {
        const from = new AnswerReader(bytes);
        try {
          if (exchange.flexible === true) skipTags(from);
          exchange.read(from);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      fuzzing(),
    );
  },
);

const frame = fc.uint8Array({ minLength: 4, maxLength: 40 }).map((body) => {
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length);
  return Buffer.concat([length, body]);
});

function pieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

test("frames are the same, however they come", () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 8 }), (all, cuts) => {
      const frames = new Frames();
      const found = pieces(Buffer.concat(all), cuts).flatMap((piece) => [...frames.take(piece, () => 40)]);
      expect(found.map(String)).toEqual(all.map((one) => String(one.subarray(4))));
    }),
    fuzzing(),
  );
});

test("bytes that are no frames are refused, or wait for more", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.array(fc.nat(), { maxLength: 4 }), (bytes, cuts) => {
      const frames = new Frames();
      try {
        for (const piece of pieces(Buffer.from(bytes), cuts)) {
          for (const one of frames.take(piece, () => 40)) expect(one.length).toBeLessThanOrEqual(40);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
    fuzzing(),
  );
});

test("whatever a server says to the first request, the process goes on", async () => {
  let said = Buffer.alloc(0);
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end(said));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  // The first request of a socket has the number 0.
  const numbered = answer.map((body) => {
    const head = Buffer.alloc(8);
    head.writeInt32BE(4 + body.length);
    return Buffer.concat([head, body]);
  });
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          numbered,
          fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
        ),
        async (bytes) => {
          said = bytes;
          const connection = connectionTo([`127.0.0.1:${port}`]);
          const { code } = await refusal(connection.connect());
          expect(["unreachable", "unsupported"]).toContain(code);
          await connection.close();
        },
      ),
      fuzzing(),
    );
  } finally {
    server.close();
  }
});
