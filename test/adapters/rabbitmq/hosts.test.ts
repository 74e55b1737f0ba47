import { expect, test } from "vitest";
import { Hosts } from "../../../adapters/rabbitmq/options.ts";

const places = ["a", "b", "c", "d"].map((host) => ({ host, port: 1 }));
const [a] = places as [(typeof places)[number]];

/** Numbers that look random, and are the same in each run. */
function random(seed: number): () => number {
  let at = seed;
  return () => {
    at = (at * 16_807) % 2_147_483_647;
    return at / 2_147_483_647;
  };
}

test("every host is tried, in a random order that all connections share", () => {
  const firsts = new Set<string>();
  for (let seed = 1; seed <= 100; seed++) {
    const hosts = new Hosts(places, random(seed * 7_919));
    const order = hosts.order();
    expect(new Set(order)).toEqual(new Set(places));
    expect(hosts.order()).toEqual(order);
    firsts.add(order[0]?.host ?? "");
  }
  expect([...firsts].sort()).toEqual(["a", "b", "c", "d"]);
});

test("the one that serves comes first, and the one that was lost last", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const hosts = new Hosts(places, random(seed * 7_919));
    hosts.connected(a);
    expect(hosts.order()[0]).toBe(a);
    hosts.lost(a);
    const after = hosts.order();
    expect(after.at(-1)).toBe(a);
    // The other connection was lost as well, and goes where the first one goes.
    hosts.lost(a);
    expect(hosts.order()).toEqual(after);
    expect(new Set(after)).toEqual(new Set(places));
  }
});
