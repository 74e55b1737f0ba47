import { createRequire } from "node:module";
import type { RecordToWrite } from "../../../adapters/kafka/records/contract.ts";

/** A record as kafkajs decodes it. */
export interface KafkajsRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer>>;
}

type EncodeBatch = (batch: {
  readonly compression: number;
  readonly firstOffset: unknown;
  readonly firstTimestamp: number;
  readonly maxTimestamp: number;
  readonly lastOffsetDelta: number;
  readonly records: readonly unknown[];
}) => Promise<{ readonly buffer: Buffer }>;
type EncodeRecord = (record: Readonly<Record<string, unknown>>) => unknown;
type DecodeBatch = (decoder: unknown) => Promise<{ readonly records: readonly KafkajsRecord[] }>;

const require = createRequire(import.meta.url);
const { RecordBatch } = require("kafkajs/src/protocol/recordBatch/v0") as { RecordBatch: EncodeBatch };
const encodeRecord = require("kafkajs/src/protocol/recordBatch/record/v0") as EncodeRecord;
const decodeBatch = require("kafkajs/src/protocol/recordBatch/v0/decoder") as DecodeBatch;
const Decoder = require("kafkajs/src/protocol/decoder") as new (bytes: Buffer) => unknown;
const Long = require("kafkajs/src/utils/long") as { fromValue(value: string): unknown };

/** Encodes records with kafkajs' own encoder, each a millisecond after the one before. */
export async function encodeByKafkajs(
  records: readonly RecordToWrite[],
  { baseOffset = 0, timestamp = 1_000, compression = 0 } = {},
): Promise<Buffer> {
  const batch = await RecordBatch({
    compression,
    firstOffset: Long.fromValue(String(baseOffset)),
    firstTimestamp: timestamp,
    maxTimestamp: timestamp + records.length - 1,
    lastOffsetDelta: records.length - 1,
    records: records.map(({ key, value, headers }, index) =>
      encodeRecord({
        offsetDelta: index,
        timestampDelta: index,
        key: key === undefined ? null : Buffer.from(key),
        value: value === undefined ? null : Buffer.from(value),
        headers: Object.fromEntries(headers),
      }),
    ),
  });
  return batch.buffer;
}

/** Decodes one batch with kafkajs' own decoder. */
export async function decodeByKafkajs(batch: Buffer): Promise<readonly KafkajsRecord[]> {
  return (await decodeBatch(new Decoder(batch))).records;
}
