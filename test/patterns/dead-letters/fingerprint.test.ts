import { fingerprint, normalisedError } from "anybroker/dead-letters";
import fc from "fast-check";
import { expect, test } from "vitest";

test.for([
  ["timeout after 312 ms", "timeout after <n> ms"],
  ["order 018f2b6c-0b7e-7c3a-9d7e-0123456789ab is gone", "order <id> is gone"],
  ['expected \'blue\', got "red \\" green"', "expected <text>, got <text>"],
  ["it isn't there and wasn't before", "it isn't there and wasn't before"],
  ["connect ECONNREFUSED 10.0.0.7:5432", "connect ECONNREFUSED <address>"],
  ["connect ECONNREFUSED [::1]:5432 or fe80:0:0:1::2", "connect ECONNREFUSED <address> or <address>"],
  ["getaddrinfo ENOTFOUND db-3.internal:5432", "getaddrinfo ENOTFOUND <address>"],
  ["GET https://shop.example/orders/7?a=b failed with 503", "GET <url> failed with <n>"],
  ["mail to ann@example.com bounced", "mail to <address> bounced"],
  ["at 2026-11-02T11:00:00.123Z it was 0x7fff in deadbeef01", "at <time> it was <hex> in <hex>"],
  ["the face of a decade", "the face of a decade"],
  ["-1.5e3 of 1,000,000 in o-7 and x9", "<n> of <n> in o-<n> and x<n>"],
  ["two\n  lines\tand   spaces ", "two lines and spaces"],
] as const)("%s", ([given, wanted]) => expect(normalisedError(given)).toBe(wanted));

test("what was normalised is not changed once more, and the same failures have one fingerprint", () => {
  fc.assert(
    fc.property(fc.nat(), fc.uuid(), fc.nat(), fc.uuid(), (n, id, m, other) => {
      const [one, two] = [`order ${id} took ${n} ms`, `order ${other} took ${m} ms`];
      expect(normalisedError(normalisedError(one))).toBe(normalisedError(one));
      expect(fingerprint("orders", "E", one)).toBe(fingerprint("orders", "E", two));
    }),
  );
});

test("destination, class and message tell failures apart; nothing else does, and it never changes", () => {
  const print = fingerprint("orders", "TypeError", "x is not a function");
  expect(print).toBe("f4ff1617b7a6");
  const others = [
    fingerprint("mails", "TypeError", "x is not a function"),
    fingerprint("orders", "RangeError", "x is not a function"),
    fingerprint("orders", "TypeError", "y is not a function"),
    fingerprint("orders", undefined, undefined),
  ];
  expect(new Set([print, ...others]).size).toBe(5);
});

test("a long hostile message takes no long time", () => {
  const hostile = [
    "'".repeat(5_000),
    '"'.repeat(4_999),
    "a@".repeat(5_000),
    "1:".repeat(5_000),
    "a.".repeat(5_000),
    "\\".repeat(9_000),
  ];
  for (const message of hostile) expect(normalisedError(message).length).toBeLessThanOrEqual(5_000);
});
