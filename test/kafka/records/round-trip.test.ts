import fc from "fast-check";
import { expect, test } from "vitest";
import { crc32c } from "../../../adapters/kafka/records/batch.ts";
import type { Compression, LogRecord, RecordToWrite } from "../../../adapters/kafka/records/contract.ts";
import { encodeRecordBatch } from "../../../adapters/kafka/records/encode.ts";
import { headerList, writtenValue } from "../../../adapters/kafka/records/read.ts";
import { decode, decodeNow, record, valuesOf } from "./batches.ts";
import { decodeByKafkajs, encodeByKafkajs } from "./kafkajs-codec.ts";
import { withTurningCodec } from "./turning-codec.ts";

const bytes = fc.option(fc.uint8Array({ maxLength: 200 }), { nil: undefined });
const text = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 100 }),
  fc.string({ maxLength: 100 }),
  fc.constantFrom("__proto__", "constructor", "toString", "", "0"),
);
const records = fc.array(
  fc.record({ key: bytes, value: bytes, headers: fc.array(fc.tuple(text, text), { maxLength: 8 }) }),
  {
    minLength: 1,
    maxLength: 20,
  },
);
const options = { producerId: 12n, epoch: 3, firstSequence: 99, timestamp: 1_700_000_000_123 };

/** What a record must come back as. */
function expected({ key, value, headers }: RecordToWrite): Omit<LogRecord, "offset" | "timestamp"> {
  const own: Record<string, Buffer> = Object.create(null);
  for (const [name, header] of headers) own[name] = Buffer.from(header ?? "");
  return {
    key: key === undefined ? undefined : Buffer.from(key),
    value: value === undefined ? undefined : Buffer.from(value),
    headers: own,
    appendTime: false,
    problem: undefined,
  };
}

/** A record with everything that it says, headers included. */
function plain({ offset, timestamp, appendTime, key, value, headers, problem }: LogRecord): LogRecord {
  return { offset, timestamp, appendTime: appendTime === true, key, value, headers, problem };
}

test("CRC-32C of RFC 3720's examples, at every alignment", () => {
  const examples: readonly (readonly [Uint8Array, number])[] = [
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd794e],
    [Uint8Array.from({ length: 32 }, (_, index) => 31 - index), 0x113fdb5c],
    [Buffer.from("123456789"), 0xe3069283],
    [new Uint8Array(0), 0],
  ];
  for (const [example, sum] of examples) {
    for (let offset = 0; offset < 9; offset++) {
      const around = Buffer.concat([Buffer.alloc(offset, 1), example, Buffer.alloc(5, 2)]);
      expect(crc32c(around, offset, offset + example.length)).toBe(sum);
    }
  }
});

test("what was encoded is decoded, at once", () => {
  fc.assert(
    fc.property(records, (written) => {
      const { records: read, ...rest } = decodeNow(encodeRecordBatch(written, options));
      expect(rest).toEqual({ nextOffset: written.length, unreadable: undefined });
      expect(read.map(plain)).toEqual(
        written.map((one, offset) => ({ offset, timestamp: options.timestamp, ...expected(one) })),
      );
      for (const { headers } of read) expect(Object.getPrototypeOf(headers)).toBe(null);
    }),
  );
});

test("headers of bytes, without a value, and several of one name are decoded as they were", () => {
  const list = fc.array(fc.tuple(text, fc.oneof(text, bytes)), { maxLength: 8 });
  fc.assert(
    fc.property(list, (headers) => {
      const { records: read } = decodeNow(encodeRecordBatch([{ ...record("a"), headers }], options));
      const { names, values } = headerList(read[0] as LogRecord);
      const back = names.map((name, index) => [name, writtenValue(values[index] as Buffer)]);
      expect(back).toEqual(
        headers.map(([name, value]) => [name, value === undefined ? undefined : Buffer.from(value as string)]),
      );
    }),
  );
});

test("kafkajs decodes what was encoded", async () => {
  await fc.assert(
    fc.asyncProperty(records, async (written) => {
      // kafkajs gives an array for headers of one name, and inherits names.
      const named = written.map((one, index) => ({
        ...one,
        headers: [[`h${index}`, one.headers[0]?.[1] ?? ""]] as const,
      }));
      const read = await decodeByKafkajs(encodeRecordBatch(named, options));
      expect(read.map(({ key, value, headers }) => ({ key, value, headers }))).toEqual(
        named.map(({ key, value, headers }) => ({
          key: key === undefined ? null : Buffer.from(key),
          value: value === undefined ? null : Buffer.from(value),
          headers: { [headers[0][0]]: Buffer.from(headers[0][1]) },
        })),
      );
      expect(read.map(({ offset, timestamp }) => [offset, timestamp])).toEqual(
        named.map((_, index) => [String(index), String(options.timestamp)]),
      );
    }),
  );
});

test("what kafkajs encoded is decoded", async () => {
  await fc.assert(
    fc.asyncProperty(records, fc.nat(2 ** 40), async (written, baseOffset) => {
      const named = written.map((one) => ({
        ...one,
        headers: one.headers.filter(
          ([name], at) => name !== "__proto__" && one.headers.findIndex(([n]) => n === name) === at,
        ),
      }));
      const timestamp = 1_700_000_000_000;
      const { records: read, ...rest } = decodeNow(await encodeByKafkajs(named, { baseOffset, timestamp }), {
        from: baseOffset,
      });
      expect({ records: read.map(plain), ...rest }).toEqual({
        records: named.map((one, index) => ({
          offset: baseOffset + index,
          timestamp: timestamp + index,
          ...expected(one),
        })),
        nextOffset: baseOffset + named.length,
        unreadable: undefined,
      });
    }),
  );
});

test("large keys, values and headers, and many records", async () => {
  const large = Buffer.alloc(3_000_000, "v");
  const written = [
    {
      key: large,
      value: large,
      headers: [
        ["long", "x".repeat(100_000)],
        ["é".repeat(5_000), "é".repeat(50_000)],
      ] as const,
    },
    ...Array.from({ length: 9_000 }, (_, index) => record(`v${index}`)),
  ];
  const { records: read, nextOffset } = await decode(encodeRecordBatch(written, options), {
    limits: { maxHeaderBytes: 1e6 },
  });
  expect(nextOffset).toBe(9_001);
  expect(read[0]?.key?.equals(large)).toBe(true);
  expect(read[0]?.headers).toEqual(expected(written[0] as RecordToWrite).headers);
  expect(read.slice(1).map(({ value }) => String(value))).toEqual(written.slice(1).map(({ value }) => String(value)));
});

test("values share the memory of what was fetched", () => {
  const batch = encodeRecordBatch([record("abc")], options);
  expect(decodeNow(batch).records[0]?.value?.buffer).toBe(batch.buffer);
});

test("of several headers with one name the last counts", () => {
  const batch = encodeRecordBatch(
    [
      record("v", [
        ["a", "1"],
        ["b", "2"],
        ["a", "3"],
      ]),
    ],
    options,
  );
  expect(String(decodeNow(batch).records[0]?.headers.a)).toBe("3");
});

const alwaysThere: readonly Compression[] = process.versions.zstd === undefined ? ["gzip"] : ["gzip", "zstd"];

test.each(alwaysThere)("%s both ways", async (compression) => {
  const written = Array.from({ length: 100 }, (_, index) => record(`value ${index}`, [["name", "é"]]));
  const batch = await encodeRecordBatch(written, { ...options, compression });
  expect(batch.length).toBeLessThan(encodeRecordBatch(written, options).length);
  const following = await encodeRecordBatch([record("plain")], options);
  following.writeBigInt64BE(100n);
  const { records: read, nextOffset, unreadable } = await decode(Buffer.concat([batch, following]));
  expect(unreadable).toBe(undefined);
  expect(valuesOf(read)).toEqual([...written.map(({ value }) => String(value)), "plain"]);
  expect(nextOffset).toBe(101);
});

test("gzip of and for kafkajs", async () => {
  const written = [record("a", [["x", "y"]]), record("b")];
  expect(valuesOf((await decode(await encodeByKafkajs(written, { compression: 1 }))).records)).toEqual(["a", "b"]);
  const read = await decodeByKafkajs(await encodeRecordBatch(written, { ...options, compression: "gzip" }));
  expect(read.map(({ value }) => String(value))).toEqual(["a", "b"]);
});

test("a codec registered with kafkajs is used, and its absence said", async () => {
  const snappy = { ...options, compression: "snappy" } as const;
  const written = [record("a"), record("b")];
  await expect(encodeRecordBatch(written, snappy)).rejects.toMatchObject({
    code: "unsupported",
    message: expect.stringContaining("snappy"),
  });
  let batch = Buffer.alloc(0);
  await withTurningCodec(async () => {
    batch = Buffer.from(await encodeRecordBatch(written, snappy));
    expect(valuesOf((await decode(batch)).records)).toEqual(["a", "b"]);
    const { unreadable } = await decode(batch, { limits: { maxInflatedBytes: 10 } });
    expect(unreadable?.error.code).toBe("too-large");
  });
  const { unreadable: missing, nextOffset } = await decode(batch);
  expect(missing).toMatchObject({ offset: 0, resumeAt: undefined, error: { code: "unsupported" } });
  expect(nextOffset).toBe(0);
});
