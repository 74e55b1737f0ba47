import { memory } from "anybroker/memory";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { IncomingMessage } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { jsonCodec } from "../../core/codec.ts";
import { isMessagingError } from "../../core/errors.ts";
import { HEADER, timeHeader } from "../../core/system-headers.ts";
import { DeadLetter, type Source } from "../../patterns/dead-letters/dead-letter.ts";
import { entryWith, stringifyEntry } from "../../patterns/dead-letters/entry.ts";
import { matcher, parseFilter } from "../../patterns/dead-letters/filter.ts";
import { placeOf } from "../../patterns/dead-letters/groups.ts";
import { movedCopy } from "../../patterns/migration/bridge-copy.ts";
import { headersOf } from "../sqs/outgoing.ts";
import { fuzzing } from "./runs.ts";

const NAMES = [...Object.values(HEADER), "anybroker-headers-not-read", "anybroker-", "__proto__", "city"];
const value = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.integer().map(String),
  fc.maxSafeInteger().map(String),
  fc.constantFrom("", "NaN", "1e400", "-8640000000000001", "8640000000000000", "9007199254740993", "+275760-09-14"),
  fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
  fc.constant("9".repeat(5_000)),
  fc.constant('"'.repeat(2_000)),
);
const id = fc.oneof(
  fc.string({ unit: "binary", maxLength: 8 }),
  fc.constantFrom("ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000"),
);
const message: fc.Arbitrary<IncomingMessage> = fc
  .record({
    id,
    headers: fc.array(fc.tuple(fc.constantFrom(...NAMES), value), { maxLength: 12 }).map((all) => headersOf(all)),
    body: fc.uint8Array({ maxLength: 12 }),
  })
  .map((given) => ({
    ...given,
    token: 1,
    key: undefined,
    routingKey: undefined,
    contentType: undefined,
    redeliveries: 0,
    native: undefined,
  }));

const SOURCE = { name: "orders", codec: jsonCodec(), schema: undefined } as unknown as Source;
const FILTER = parseFilter('reason != x and age > 1s and attempts >= 0 and header.city !~ "a" and time < 2030-01-01');

test("a dead letter is shown and found whatever its headers say", () => {
  fc.assert(
    fc.property(message, (given) => {
      const letter = new DeadLetter(given, "orders");
      const entry = entryWith(letter, given, SOURCE, 1_000);
      expect(JSON.parse(stringifyEntry(entry))).toEqual(JSON.parse(JSON.stringify(entry)));
      expect(typeof matcher(FILTER, 1_700_000_000_000)(letter)).toBe("boolean");
      expect(Number.isFinite(placeOf(letter).time)).toBe(true);
      expect(letter.id).toBe(new DeadLetter(given, "orders").id);
    }),
    fuzzing(),
  );
});

test("a message is moved whatever its headers say, or is told to be too large", () => {
  const clock = { now: () => 1_700_000_000_000, monotonic: () => 0, schedule: () => ({}), cancel: () => {} };
  const to = { adapter: memory(), clock } as unknown as BrokerInternals;
  const { maxMs } = to.adapter.capabilities.delay;
  fc.assert(
    fc.property(message, (given) => {
      try {
        const { delayMs, ttlMs = 1, headers, size } = movedCopy(given, to, 1);
        expect(Number.isSafeInteger(delayMs) && delayMs >= 0 && delayMs <= maxMs).toBe(true);
        expect(Number.isSafeInteger(ttlMs) && ttlMs >= 1).toBe(true);
        expect(headers[HEADER.moves]).toMatch(/^[1-9]\d*$/);
        expect(size).toBeGreaterThan(0);
      } catch (error) {
        expect(isMessagingError(error, "too-large")).toBe(true);
      }
    }),
    fuzzing(),
  );
});

test("a time in a header is one that a date can hold", () => {
  fc.assert(
    fc.property(value, (text) => {
      const time = timeHeader({ n: text }, "n");
      if (time !== undefined) expect(() => new Date(time).toISOString()).not.toThrow();
    }),
    fuzzing(),
  );
});
