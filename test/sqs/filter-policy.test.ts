import { expect, test } from "vitest";
import { filterPolicy, isPartial, isSurplus } from "../../adapters/sqs/filter-policy.ts";
import { ROUTING_KEY } from "../../adapters/sqs/message-codec.ts";
import { routingMatches } from "../../core/destination.ts";

const KEYS = [
  "geo",
  "geo.us",
  "geo.us.ny",
  "geo.us.ny.manhattan",
  "geography",
  "geography.us",
  "a",
  "GEO.us",
  "geo.usa",
];
const FILTERS = ["#", "*", "geo", "geo.#", "geo.*", "geo.us.#", "geo.us.*.#", "*.us", "#.ny", "geo.us.ny", "geo.#.ny"];

/** What SNS lets through, as its documentation has it. */
function passes(policy: string | undefined, routingKey: string): boolean {
  if (policy === undefined) return true;
  const patterns: (string | { prefix: string })[] = JSON.parse(policy)[ROUTING_KEY];
  return patterns.some((one) => (typeof one === "string" ? one === routingKey : routingKey.startsWith(one.prefix)));
}

test.for(FILTERS)("SNS keeps away nothing that %s asks for", (filter) => {
  const policy = filterPolicy(filter);
  for (const key of KEYS) if (routingMatches(filter, key)) expect(passes(policy, key), key).toBe(true);
});

test("SNS keeps away what it can", () => {
  expect(KEYS.filter((key) => passes(filterPolicy("geo.us.ny"), key))).toEqual(["geo.us.ny"]);
  expect(KEYS.filter((key) => passes(filterPolicy("geo.us.#"), key))).toEqual([
    "geo.us",
    "geo.us.ny",
    "geo.us.ny.manhattan",
  ]);
  expect(KEYS.filter((key) => passes(filterPolicy("geo.*"), key))).not.toContain("geography.us");
});

test.for([undefined, "#", "#.ny", "*.us"])("everything may match %s", (filter) => {
  expect(filterPolicy(filter)).toBeUndefined();
});

test.for(FILTERS)("of what comes, %s throws away only what SNS could not keep away for it", (filter) => {
  for (const key of KEYS) {
    const surplus = passes(filterPolicy(filter), key) && !routingMatches(filter, key);
    expect(isSurplus(filter, key), key).toBe(surplus);
  }
});

test.for(FILTERS)("of what comes, some is thrown away only where %s is read on", (filter) => {
  const some = KEYS.some((key) => isSurplus(filter, key));
  if (some) expect(isPartial(filter)).toBe(true);
  expect(isPartial(filter)).toBe(!["#", "geo", "geo.#", "geo.us.#", "geo.us.ny"].includes(filter));
});

test("what has no routing key is thrown away only where SNS lets everything through", () => {
  expect(["geo.us", "geo.#", "*.us", "#.ny"].map((filter) => isSurplus(filter, undefined))).toEqual([
    false,
    false,
    true,
    true,
  ]);
});
