import { expect, test } from "vitest";
import { routingMatches } from "../../core/destination.ts";

test.for([
  ["#", undefined, true],
  ["#", "", true],
  ["geo.*", "geo.us", true],
  ["geo.*", "geo", false],
  ["geo.#", "geo", true],
  ["#.us", "geo.eu.us", true],
  ["#.us.#", "us", true],
  ["*.us.#.ny", "geo.us.a.b.ny", true],
  ["*.us.#.ny", "geo.us.a.b", false],
  ["#.a.#.b", "a.b.a", false],
  ["geo", undefined, false],
  ["#.#", "a", true],
] as const)("the filter %s and the routing key %s", ([filter, key, matches]) => {
  expect(routingMatches(filter, key)).toBe(matches);
});

test("a filter with many wildcards takes no longer for a key that nearly matches", () => {
  const filter = `${"#.a.".repeat(24)}b`;
  expect(routingMatches(filter, "a.".repeat(126).slice(0, -1))).toBe(false);
  expect(routingMatches(filter, `${"a.".repeat(126)}b`)).toBe(true);
});

test("a key that AMQP could not carry matches only what matches everything", () => {
  for (const key of [`a${".a".repeat(50_000)}`, `a.${"ü".repeat(127)}`]) {
    expect(routingMatches("#", key)).toBe(true);
    expect(routingMatches("#.#", key)).toBe(true);
    expect(routingMatches("a.#", key)).toBe(false);
  }
  expect(routingMatches("a.#", `a.${"x".repeat(253)}`)).toBe(true);
});
