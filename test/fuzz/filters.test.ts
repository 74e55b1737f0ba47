import fc from "fast-check";
import { expect, test } from "vitest";
import { routingMatches } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { parseFilter, printFilter } from "../../patterns/dead-letters/filter.ts";
import { fuzzing } from "./runs.ts";

/** What a filter means, as an expression: it backtracks, and is for short keys only. */
function meansMatch(filter: string, key: string): boolean {
  const parts = filter.split(".").map((part) => {
    if (part === "#") return "(?:\\.[^.]*)*";
    return part === "*" ? "\\.[^.]*" : `\\.${part}`;
  });
  return new RegExp(`^${parts.join("")}$`, "s").test(`.${key}`);
}

const part = fc.constantFrom("a", "b", "*", "#");
const filter = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join("."));
const word = fc.constantFrom("a", "b", "", "*", "#", "c");

test("routing filters match what they mean", () => {
  const key = fc.array(word, { minLength: 1, maxLength: 6 }).map((words) => words.join("."));
  fc.assert(
    fc.property(filter, key, (given, routingKey) => {
      expect(routingMatches(given, routingKey)).toBe(meansMatch(given, routingKey));
    }),
    fuzzing(),
  );
});

test("routing filters answer for any key, however long", () => {
  const long = fc.tuple(fc.string({ unit: "binary" }), fc.nat({ max: 20_000 })).map(([text, times]) => {
    return `${text}.`.repeat(times);
  });
  fc.assert(
    fc.property(filter, long, (given, routingKey) => {
      expect(typeof routingMatches(given, routingKey)).toBe("boolean");
    }),
    fuzzing(),
  );
});

test("filters of dead letters are read, or refused as invalid", () => {
  const words = fc.constantFrom(
    "reason",
    "header.x",
    'header."',
    "=",
    "!~",
    "in",
    "(",
    ")",
    ",",
    "and",
    "age",
    ">",
    "1h",
    "time",
    '"\\u0000"',
    '"',
    "all",
    "since",
    "attempts",
    "9e9",
    "2026-11-01",
    "+275760-09-14",
  );
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 60 }),
    fc.array(fc.oneof({ weight: 6, arbitrary: words }, fc.string({ maxLength: 5 })), { maxLength: 12 }).map((all) => {
      return all.join(" ");
    }),
  );
  fc.assert(
    fc.property(text, (given) => {
      let parsed: ReturnType<typeof parseFilter>;
      try {
        parsed = parseFilter(given);
      } catch (error) {
        expect(isMessagingError(error, "invalid")).toBe(true);
        return;
      }
      expect(parseFilter(printFilter(parsed))).toEqual(parsed);
    }),
    fuzzing(),
  );
});
