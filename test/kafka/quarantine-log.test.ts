import { expect, test } from "vitest";
import type { Log, Piece } from "../../adapters/kafka/dead-letters/partition-log.ts";
import type { RecordToSend } from "../../adapters/kafka/producing/producer.ts";
import { KafkaQuarantineLog } from "../../adapters/kafka/quarantine-log.ts";
import type { LogRecord } from "../../adapters/kafka/records/contract.ts";
import type { SendResult } from "../../core/adapter.ts";
import { systemClock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";

const TOPIC = "orders.queue.quarantine";
const GONE = new MessagingError("not-found", "no such topic");

/** A log in memory, which answers as it is told. */
function world({ restorable = false, requestTimeoutMs = 10_000 } = {}) {
  const ended = new AbortController();
  const told = {
    exists: true,
    restored: 0,
    answers: [] as SendResult[],
    isSilent: false,
    /** So many records a piece has. */
    most: 2,
    first: 0,
    /** Where the fetches of a leader end that does not know better yet, one after another. */
    ends: [] as number[],
    cuts: 0,
    /** Whether an open transaction hides what is behind such an end. */
    isHidden: false,
    hangs: false,
  };
  const records: LogRecord[] = [];
  const sent: RecordToSend[] = [];
  const open = new Set<Log>();
  const openLog = (at: { readonly topic: string; readonly partition: number }): Log => {
    const { promise: closed, reject } = Promise.withResolvers<never>();
    closed.catch(() => {});
    const log: Log = {
      ...at,
      topicId: "id",
      first: async () => {
        if (!told.exists) throw GONE;
        return told.first;
      },
      end: async () => records.length,
      read: async (from): Promise<Piece | "out-of-range"> => {
        if (told.hangs) return closed;
        if (told.cuts > 0) {
          told.cuts--;
          return "out-of-range";
        }
        const end = told.ends.shift() ?? records.length;
        const some = records.slice(from, Math.min(from + told.most, end));
        const [nextOffset, openTransaction] = [from + some.length, told.isHidden];
        return { records: some, nextOffset, end, openTransaction, unreadable: undefined };
      },
      close: async () => {
        open.delete(log);
        reject(new MessagingError("closed", "closed meanwhile"));
      },
    };
    open.add(log);
    return log;
  };
  const log = new KafkaQuarantineLog(TOPIC, {
    producer: {
      send: (topic, given, report) => {
        expect(topic).toBe(TOPIC);
        for (const record of given) {
          sent.push(record);
          if (told.isSilent) continue;
          const result = told.answers.shift() ?? { status: "confirmed" };
          if (result.status === "confirmed") put(Buffer.from(record.value ?? ""));
          report(0, result);
        }
      },
    },
    clock: systemClock(),
    requestTimeoutMs,
    openLog,
    restore: async () => {
      told.restored++;
      told.exists = restorable;
      return restorable;
    },
    ended: ended.signal,
  });
  function put(value: Buffer | undefined): void {
    records.push({ offset: records.length, timestamp: 0, key: undefined, value, headers: {} });
  }
  return { log, told, sent, put, open, ended };
}

test("what is appended goes to the one partition, and all of it is read, in pieces", async () => {
  const { log, sent, put, open } = world();
  expect(await log.read()).toEqual([]);
  for (const record of ["a", "b – ü", "c"]) await log.append(record);
  // Whatever another wrote there.
  put(undefined);
  await log.append("d");
  expect(sent.map(({ partition }) => partition)).toEqual([0, 0, 0, 0]);
  expect(await log.read()).toEqual(["a", "b – ü", "c", "d"]);
  expect(open.size).toBe(0);
});

test("a leader that does not know yet what is confirmed is asked until it does", async () => {
  const { log, told } = world();
  for (const record of ["a", "b", "c"]) await log.append(record);
  told.ends = [1, 1, 1];
  expect(await log.read()).toEqual(["a", "b", "c"]);
});

test("records behind an open transaction are not passed over", async () => {
  const { log, told } = world();
  for (const record of ["a", "b", "c"]) await log.append(record);
  told.ends = [1];
  told.isHidden = true;
  await expect(log.read()).rejects.toMatchObject({ code: "unreachable" });
});

test("what Kafka deletes while it is read is no failure, unless it goes on", async () => {
  const { log, told, open } = world();
  for (const record of ["a", "b", "c"]) await log.append(record);
  told.cuts = 1;
  told.first = 1;
  expect(await log.read()).toEqual(["b", "c"]);
  told.cuts = 2;
  await expect(log.read()).rejects.toMatchObject({ code: "conflict" });
  expect(open.size).toBe(0);
});

test("a topic that is gone is made again where that is allowed", async () => {
  const allowed = world({ restorable: true });
  allowed.told.answers = [{ status: "rejected", error: GONE }];
  await allowed.log.append("a");
  allowed.told.exists = false;
  expect(await allowed.log.read()).toEqual(["a"]);
  expect(allowed.told.restored).toBe(2);
  const refused = world();
  refused.told.answers = [{ status: "rejected", error: GONE }];
  await expect(refused.log.append("a")).rejects.toBe(GONE);
  await expect(refused.log.read()).rejects.toBe(GONE);
});

test("what is not confirmed is told, and why", async () => {
  const { log, told } = world();
  const cause = new MessagingError("timeout", "no answer");
  told.answers = [{ status: "unknown", cause }];
  await expect(log.append("a")).rejects.toMatchObject({ code: "timeout", cause });
  told.answers = [{ status: "unknown", cause: "broken" }];
  await expect(log.append("a")).rejects.toMatchObject({ code: "unreachable", cause: "broken" });
  const error = new MessagingError("unauthorized", "no right");
  told.answers = [{ status: "rejected", error }];
  await expect(log.append("a")).rejects.toBe(error);
  expect(told.restored).toBe(0);
});

test("what has no answer is not waited for as long as a message", async () => {
  const { log, told } = world({ requestTimeoutMs: 5 });
  told.isSilent = true;
  await expect(log.append("a")).rejects.toMatchObject({ code: "timeout", message: expect.stringContaining(TOPIC) });
});

test("what is being read at the end of the adapter is given up", async () => {
  const { log, told, open, ended } = world();
  await log.append("a");
  told.hangs = true;
  const reading = log.read();
  await new Promise((resolve) => setImmediate(resolve));
  expect(open.size).toBe(1);
  ended.abort();
  await expect(reading).rejects.toMatchObject({ code: "closed" });
  expect(open.size).toBe(0);
});
