import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { RecordBuffer } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { RecordToWrite } from "../../../adapters/kafka/records/contract.ts";
import { encodeRecordBatch } from "../../../adapters/kafka/records/encode.ts";
import { decode, decodeNow, record, stored } from "./batches.ts";

const NOBODY = { producerId: -1n, epoch: -1, firstSequence: -1, timestamp: 0 };
/** As many as fit into the most that a batch may inflate to. */
const RECORDS = 32_853;
const PREFETCH = 100;

interface Outcome {
  readonly records: number;
  readonly nextOffset: number;
  readonly error: string | undefined;
  readonly turns: number;
  readonly routed: number;
  readonly headers: readonly number[];
  readonly problems: number;
}

type Headers = RecordToWrite["headers"];

const empty = (count: number): Headers => Array.from({ length: count }, () => ["", ""]);

/** What comes of reading a batch of records with these headers in turn, in a thread with a small heap. */
async function readInSmallHeap(count: number, ...headers: readonly Headers[]): Promise<Outcome> {
  const records = Array.from({ length: count }, (_, index): RecordToWrite => {
    return { key: undefined, value: undefined, headers: headers[index % headers.length] ?? [] };
  });
  const batch = await encodeRecordBatch(records, { ...NOBODY, compression: "gzip" });
  expect(batch.length).toBeLessThan(1024 * 1024);
  const worker = new Worker(new URL("./small-heap.ts", import.meta.url), {
    workerData: { batch, prefetch: PREFETCH },
    resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 },
  });
  return new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`the thread ended with ${code}`)));
  });
}

test.for<[string, number, readonly Headers[]]>([
  ["a thousand headers each", RECORDS, [empty(1_000)]],
  ["now 999 headers, now 1,000", RECORDS, [empty(999), empty(1_000)]],
  ["a thousand names each", 9_000, [Array.from({ length: 1_000 }, (_, index) => [`n${index}`, ""])]],
])("very many records with %s are read in little memory, and others have their turns", async ([, count, headers]) => {
  const outcome = await readInSmallHeap(count, ...headers);
  expect(outcome).toMatchObject({ records: count, nextOffset: count, error: undefined, routed: 0, problems: 0 });
  expect(outcome.headers).toHaveLength(PREFETCH);
  expect(outcome.turns).toBeGreaterThan(5);
});

test("very many records that say to have too many headers are read in little memory", async () => {
  const outcome = await readInSmallHeap(RECORDS, empty(1_001));
  expect(outcome).toMatchObject({ records: RECORDS, error: undefined, problems: RECORDS });
});

test("headers count in what is buffered", async () => {
  const { records } = await decode(stored({ records: [record("a", empty(500)), record("b")] }));
  const buffer = new RecordBuffer();
  buffer.push(records);
  expect(buffer.bytes).toBeGreaterThan(1_000);
});

test("headers that are none make their batch unreadable, before anybody asks for them", () => {
  const headers = [["name", "value"]] as const;
  const edit = (batch: Buffer): void => {
    // The length of the value is beyond the end of the record.
    batch[batch.length - "value".length - 1] = 100;
  };
  const { records, unreadable } = decodeNow(stored({ records: [record("a", headers)], edit }));
  expect(records).toEqual([]);
  expect(unreadable).toMatchObject({ offset: 0, resumeAt: 1, error: { code: "invalid" } });
});
