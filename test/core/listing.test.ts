import fc from "fast-check";
import { expect, test } from "vitest";
import { topicName } from "../../adapters/kafka/names.ts";
import { addressNameOf, awsName, FIFO } from "../../adapters/sqs/names.ts";
import { addressesAmong, parseWorkAddress } from "../../core/adapter-support.ts";
import { type Address, addressName, type WorkAddress } from "../../core/address.ts";

const word = fc.stringMatching(/^[a-z][a-z0-9_-]{0,2}$/);
const name = fc.array(word, { minLength: 1, maxLength: 2 }).map((words) => words.join("."));
const work: fc.Arbitrary<WorkAddress> = fc
  .oneof(
    name.map((one): WorkAddress => ({ kind: "queue", name: one })),
    fc.tuple(name, name).map(([topic, one]): WorkAddress => ({ kind: "subscription", topic, name: one })),
  )
  .filter((of) => !/(?:\.|^)(?:dlq|quarantine|queue|delays)(?:\.|$)/.test(addressName(of)));

const everythingOf = (of: WorkAddress): readonly Address[] => [
  of,
  { kind: "dead-letters", of },
  { kind: "quarantine", of },
  ...(of.kind === "subscription" ? [{ kind: "topic", name: of.topic } as const] : []),
];

test("what stands is found among the names of each broker", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(work, { selector: addressName, maxLength: 5 }),
      word,
      fc.boolean(),
      (all, prefix, fifo) => {
        const addresses = all.flatMap(everythingOf);
        const expected = new Set(all.map(addressName));
        const found = (names: readonly string[], mainName?: (of: WorkAddress) => string) =>
          new Set(
            addressesAmong([...names, "foreign", "amq.gen", "nobody-here.dlq"], mainName).flatMap((of) =>
              of.kind === "topic" ? [] : [addressName(of)],
            ),
          );
        expect(found(addresses.map(addressName))).toEqual(expected);
        expect(found(addresses.map(topicName), topicName)).toEqual(expected);
        const queues = addresses
          .filter(({ kind }) => kind !== "topic")
          .map((of) => `${awsName(of, prefix)}${fifo ? FIFO : ""}`);
        expect(found(queues.flatMap((queue) => addressNameOf(queue, prefix) ?? []))).toEqual(expected);
      },
    ),
  );
});

test("names that are none of ours are passed over", () => {
  expect(addressesAmong(["orders", "b.dlq", "a b", "a b.dlq", "a..b..c", "a..b..c.dlq", ".dlq", ""])).toEqual([]);
  expect(addressesAmong(["t..s", "t..s.dlq", "t"])).toEqual([
    { kind: "subscription", topic: "t", name: "s" },
    { kind: "topic", name: "t" },
  ]);
  expect(parseWorkAddress("orders.dlq")).toBeUndefined();
  expect([addressNameOf("shop_orders", "other"), addressNameOf("a_x", ""), addressNameOf("a_", "")]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});
