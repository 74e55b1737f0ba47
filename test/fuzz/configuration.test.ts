import { memory } from "anybroker/memory";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Configuration, defineConfig } from "../../cli/configuration.ts";
import { CommandError } from "../../cli/exit-codes.ts";
import { chooseBroker } from "../../cli/frame.ts";
import { Secrets } from "../../cli/secrets.ts";
import { parseAddress } from "../../cli/target.ts";
import { queue } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { command } from "../cli/commands.ts";
import { fuzzing } from "./runs.ts";

const trap: fc.Arbitrary<unknown> = fc.constantFrom(
  { toString: 1, valueOf: 1 },
  Object.create(null),
  null,
  Symbol("s"),
  () => {},
  [null],
  Number.NaN,
  2n,
);
const value = fc.oneof(
  trap,
  fc.anything({ maxDepth: 2, withNullPrototype: true, withBigInt: true }),
  fc.constantFrom<unknown>(memory(), "memory:", [queue("orders")], { main: "memory:" }),
);
const NAMES = [
  "broker",
  "brokers",
  "destinations",
  "require",
  "outboxes",
  "migration",
  "by",
  "close",
  "__proto__",
  "x",
];

test("any configuration is taken, or refused as invalid", () => {
  const configuration = fc.oneof(
    value,
    fc.array(fc.tuple(fc.constantFrom(...NAMES), value), { maxLength: 4 }).map(Object.fromEntries),
  );
  fc.assert(
    fc.property(configuration, (given) => {
      try {
        expect(defineConfig(given as Configuration)).toBe(given);
      } catch (error) {
        expect(isMessagingError(error, "invalid"), String((error as Error).stack)).toBe(true);
      }
    }),
    fuzzing(),
  );
});

const word = fc.oneof(
  fc.constantFrom(
    "queue:",
    "topic:",
    "orders",
    "/billing",
    ",",
    "ttl=",
    "priorities=9",
    "from=",
    "__proto__",
    "ordered",
  ),
  fc.string({ unit: "binary", maxLength: 6 }),
);
const address = fc.array(word, { maxLength: 5 }).map((words) => words.join(""));

test("any address and any name of a broker is read, or refused as a mistake in the command line", () => {
  const sources = { configuration: { brokers: { main: "memory:" } }, env: {}, secrets: new Secrets({}) };
  fc.assert(
    fc.property(address, (given) => {
      for (const read of [() => parseAddress(given), () => chooseBroker(sources, given)]) {
        try {
          read();
        } catch (error) {
          expect(error).toBeInstanceOf(CommandError);
        }
      }
    }),
    fuzzing(),
  );
});

test("a command line never ends in a mistake of anybroker itself", async () => {
  const configuration: Configuration = { broker: "memory:", destinations: [queue("orders")] };
  const verb = fc.constantFrom(["doctor"], ["topology", "show"], ["dlq", "ls"], ["dlq", "groups"], ["send"], []);
  const more = fc.array(fc.oneof(address, fc.constantFrom("--json", "--broker", "--limit", "-1", "orders", "--")), {
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(verb, more, async (words, rest) => {
      const { code, stderr } = await command([...words, ...rest], { configuration });
      expect([code === 70, stderr]).toEqual([false, stderr]);
    }),
    fuzzing(),
  );
});
