import { expect, test } from "vitest";
import { namePattern } from "../../../adapters/rabbitmq/policies.ts";

const NAME = "anybroker.delay.undelivered.quarantine";

test.each([
  [".*", true],
  ["", true],
  ["^anybroker\\.", true],
  ["^(anybroker\\.|orders|.*\\.(dlq|quarantine)$)", true],
  ["^(?!amq\\.).*", true],
  ["^(?:orders|placed)$", false],
  ["^[a-z.]{3,60}$", true],
  ["^[^\\d]+$", true],
  ["^(delay\\.)*x", false],
  ["quarantine", true],
])("the usual pattern %s is run", (source, expected) => {
  const pattern = namePattern(source);
  expect(pattern?.steps(NAME.length)).toBeLessThan(100_000);
  expect(pattern?.test(NAME)).toBe(expected);
});

test.each([
  ["^(([a-z.])+)+[A-Z]([a-z])+$", "nested repetitions"],
  ["^(a|a)*$", "a repeated choice"],
  ["^(a?){30}$", "a counted choice"],
  ["^(.*){9}$", "many repetitions, by count"],
  [`^${".*".repeat(20)}x`, "many repetitions, in a row"],
  [`^${"a?".repeat(40)}${"a".repeat(40)}`, "many choices in a row"],
  ["^(.*)\\1\\1$", "a reference"],
  ["^(?<a>.*)\\k<a>$", "a named one"],
  ["a{99999}", "a large count"],
  ["((a{999}){999}){999}", "large counts within each other"],
  ["a".repeat(1_001), "a long one"],
  ["(".repeat(500), "what has no end"],
  ["a)", "what has no beginning"],
  ["(?|a|b)", "a group that only Perl has"],
  ["(?i)a", "flags of Perl's"],
  ["\\Aorders\\z", "anchors of Perl's"],
  ["[[:alpha:]]", "a named set"],
  ["[]a]", "a set that begins with its end"],
  ["a++", "what never goes back"],
  ["a{,3}", "a count without a least"],
  ["\\", "an escape of nothing"],
])("%s is not run (%s)", (source) => {
  const steps = namePattern(source)?.steps(NAME.length) ?? Number.POSITIVE_INFINITY;
  expect(steps).toBeGreaterThan(1_000_000);
});
