import { createRequire } from "node:module";
import fc from "fast-check";
import { expect, test } from "vitest";
import { murmur2, PartitionChooser, partitionOfKey } from "../../../adapters/kafka/producing/accumulator.ts";
import { Prng } from "../../simulation/prng.ts";

type KafkajsHash = (key: Buffer) => number;
const kafkajsMurmur2 = createRequire(import.meta.url)(
  "kafkajs/src/producer/partitioners/default/murmur2.js",
) as KafkajsHash;

test("the hashes of Kafka's own tests", () => {
  // Those of UtilsTest.testMurmur2 in Kafka.
  const examples: readonly (readonly [string, number])[] = [
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ];
  for (const [key, hash] of examples) expect([key, murmur2(Buffer.from(key))]).toEqual([key, hash]);
});

test("the same hash as kafkajs for any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (key) => {
      expect(murmur2(key)).toBe(kafkajsMurmur2(Buffer.from(key)));
    }),
  );
});

test("a key's partition is within the topic", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), fc.integer({ min: 1, max: 100 }), (key, partitions) => {
      const partition = partitionOfKey(key, partitions);
      expect(partition).toBeGreaterThanOrEqual(0);
      expect(partition).toBeLessThan(partitions);
      expect(partitionOfKey(Uint8Array.from(key), partitions)).toBe(partition);
    }),
  );
});

test("records without a key are dealt evenly, in turn, from anywhere", () => {
  const firsts = new Set<number>();
  for (let seed = 0; seed < 30; seed++) {
    const chooser = new PartitionChooser(new Prng(String(seed)));
    const dealt = Array.from({ length: 8 }, () => chooser.next(4, () => 2));
    expect(dealt.slice(0, 4).toSorted()).toEqual([0, 1, 2, 3]);
    expect(dealt.slice(4)).toEqual(dealt.slice(0, 4));
    firsts.add(dealt[0] as number);
  }
  expect(firsts.size).toBe(4);
});

test("the fittest come first, and of equals each in turn", () => {
  const chooser = new PartitionChooser(new Prng("x"));
  const fitness = [0, 1, 0, 1];
  const dealt = Array.from({ length: 6 }, () => chooser.next(4, (partition) => fitness[partition] as number));
  expect(new Set(dealt)).toEqual(new Set([1, 3]));
  expect(dealt.filter((partition) => partition === 1)).toHaveLength(3);
  expect(chooser.next(1, () => 0)).toBe(0);
});
