import { expect, test } from "vitest";
import { DELAY_HEADER } from "../../adapters/kafka/delays/levels.ts";
import type { RecordToSend } from "../../adapters/kafka/producing/producer.ts";
import { KafkaPublisher } from "../../adapters/kafka/publisher.ts";
import type { OutgoingMessage, SendReport, SendResult } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import { systemRandom } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { codeOf, message } from "../adapters/seam-values.ts";

const ORDERS = { kind: "queue", name: "orders" } as const;

interface Sent {
  readonly topic: string;
  readonly records: readonly RecordToSend[];
  readonly report: SendReport;
}

/** A sender over a producer that only writes down, and topics that can be restored. */
function sender(restorable: readonly string[] = []) {
  const sent: Sent[] = [];
  const restored: string[] = [];
  const host = {
    producer: {
      send: (topic: string, records: readonly RecordToSend[], report: SendReport) =>
        void sent.push({ topic, records, report }),
    },
    random: systemRandom(),
    now: () => 1_000_000,
    restore: (topic: string) => {
      restored.push(topic);
      return Promise.resolve(restorable.includes(topic));
    },
  };
  const subject = new KafkaPublisher(host);
  const results: (SendResult | undefined)[] = [];
  const send = (to: Address, ...messages: OutgoingMessage[]): void =>
    subject.send(to, messages, (index, result) => {
      expect(results[index]).toBeUndefined();
      results[index] = result;
    });
  return { send, sent, restored, results };
}

test.each<[Address, string]>([
  [ORDERS, "orders.queue"],
  [{ kind: "topic", name: "placed" }, "placed"],
  [{ kind: "subscription", topic: "placed", name: "billing" }, "placed..billing"],
  [{ kind: "dead-letters", of: ORDERS }, "orders.dlq"],
])("what goes to %j is written to %s, and answered for", (to, topic) => {
  const { send, sent, results } = sender();
  send(to, message("a"), message("b"));
  expect(sent.map((one) => [one.topic, one.records.length])).toEqual([[topic, 2]]);
  sent[0]?.report(1, { status: "confirmed" });
  expect(results).toEqual([undefined, { status: "confirmed" }]);
});

test("dead letters get keys of their own", () => {
  const { send, sent } = sender();
  send({ kind: "dead-letters", of: ORDERS }, message("a", { key: "k" }), message("a", { key: "k" }));
  const keys = sent[0]?.records.map(({ key }) => String(key)) ?? [];
  expect(new Set(keys).size).toBe(2);
  expect(sent[0]?.records[0]?.headers).toContainEqual(["anybroker-key", "k"]);
});

test("what is delayed waits apart, and each is answered for by its place in the batch", () => {
  const { send, sent, results } = sender();
  send(ORDERS, message("a"), message("b", { delayMs: 5_000 }), message("c"), message("d", { delayMs: 100 }));
  expect(sent.map(({ topic }) => topic)).toEqual(["orders.queue", "orders.queue.delays"]);
  const [now, later] = sent;
  expect(now?.records.flatMap(({ headers }) => headers.filter(([name]) => name === DELAY_HEADER))).toEqual([]);
  expect(later?.records.map(({ partition }) => partition)).toEqual([2, 0]);
  later?.report(0, { status: "confirmed" });
  now?.report(1, { status: "unknown", cause: "lost" });
  expect(results).toEqual([undefined, { status: "confirmed" }, { status: "unknown", cause: "lost" }]);
});

test("a quarantine log takes no messages", () => {
  const { send, sent, results } = sender();
  send({ kind: "quarantine", of: ORDERS }, message("a", { delayMs: 1 }), message("b"));
  expect(results.map(codeOf)).toEqual(["unsupported", "unsupported"]);
  expect(sent).toEqual([]);
});

test("a topic that is gone is made again where it was declared, and the message is sent again", async () => {
  const { send, sent, restored, results } = sender(["orders.queue"]);
  send(ORDERS, message("a"), message("b"));
  const error = new MessagingError("not-found", "no such topic");
  sent[0]?.report(0, { status: "rejected", error });
  await Promise.resolve();
  expect(restored).toEqual(["orders.queue"]);
  expect(results[0]).toEqual({ status: "unknown", cause: error });
  const other = sender();
  other.send(ORDERS, message("a"));
  other.sent[0]?.report(0, { status: "rejected", error });
  await Promise.resolve();
  expect(other.results[0]).toEqual({ status: "rejected", error });
});

test("what would be read without its headers is refused, and the others go", () => {
  const { send, sent, results } = sender();
  const headers = (count: number, bytes: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`h${n}`, "x".repeat(bytes)]));
  send(
    ORDERS,
    message("many", { headers: headers(999, 1) }),
    message("a"),
    message("long", { headers: headers(10, 26_300) }),
  );
  expect(sent[0]?.records).toHaveLength(1);
  sent[0]?.report(0, { status: "confirmed" });
  expect(results.map(codeOf)).toEqual(["too-large", "confirmed", "too-large"]);
});
