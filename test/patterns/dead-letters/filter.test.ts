import { type Condition, type DeadLetterFilter, parseFilter, printFilter } from "anybroker/dead-letters";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MessagingError } from "../../../core/errors.ts";
import { DeadLetter } from "../../../patterns/dead-letters/dead-letter.ts";
import { filterOf, matcher } from "../../../patterns/dead-letters/filter.ts";
import { incomingDeadLetter, NOW } from "./letters.ts";

const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string(),
  fc.constantFrom("and", "in", "all", "(", '"', "a b", ""),
);
const name = text.filter((one) => one !== "");
const target = fc.oneof(
  fc.constantFrom("id", "destination", "key", "error").map((field) => ({ field })),
  name.map((one) => ({ field: "header", name: one })),
);
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const timeOperator = fc.constantFrom("<", "<=", ">", ">=");
const reason = fc.constantFrom("attempts", "invalid", "rejected", "crashed", "expired", "unknown");
const group = fc.stringMatching(/^[0-9a-f]{12}$/);
const condition = fc.oneof(
  fc.tuple(fc.constantFrom("=", "!=", "~", "!~"), reason).map(([is, value]) => ({ field: "reason", is, value })),
  fc.array(group, { minLength: 1 }).map((value) => ({ field: "group", is: "in", value })),
  fc.tuple(target, fc.constantFrom("=", "!=", "~", "!~"), text).map(([on, is, value]) => ({ ...on, is, value })),
  fc.tuple(target, fc.array(text, { minLength: 1 })).map(([on, value]) => ({ ...on, is: "in", value })),
  fc
    .tuple(fc.constantFrom("attempts", "replays"), fc.constantFrom("=", "!=", "<", "<=", ">", ">="), count)
    .map(([field, is, value]) => ({ field, is, value })),
  fc.tuple(timeOperator, count).map(([is, value]) => ({ field: "age", is, value })),
  fc
    .tuple(timeOperator, fc.date({ min: new Date(0), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true }))
    .map(([is, value]) => ({ field: "time", is, value: value.toISOString() })),
) as fc.Arbitrary<Condition>;
const filter: fc.Arbitrary<DeadLetterFilter> = fc.array(condition, { maxLength: 5 });

test("a filter that is printed is read as the same", () => {
  fc.assert(
    fc.property(filter, (given) => {
      const printed = printFilter(given);
      expect(parseFilter(printed)).toEqual(given);
      expect(filterOf("it", given)).toEqual(given);
    }),
    { numRuns: 1_000 },
  );
});

test("a value that no entry can have is refused, with what there is", () => {
  for (const [given, problem] of [
    ["reason = atempts", 'reason = "atempts" can match nothing: a reason is one of attempts, invalid,'],
    ["reason != Attempts", "a reason is one of"],
    ["reason in (attempts, expried)", '"expried"'],
    ["reason ~ xyz", "a reason is one of"],
    ["group = 1f2ba8", "12 hexadecimal digits"],
    ["group ~ xyz", "12 hexadecimal digits"],
    ["destination = order", "these are the dead letters of orders"],
    ["destination ~ mail", "these are the dead letters of orders"],
  ] as const) {
    expect(() => filterOf("it", given, "orders"), given).toThrow(problem);
  }
  for (const given of ["reason ~ TEMPT", "group ~ 1f2B", "destination ~ RDER", "destination in (orders)", "id = x"]) {
    expect(filterOf("it", given, "orders")).toHaveLength(1);
  }
});

test("a text that is read and printed is read as the same again, whatever it is; what cannot be read is refused", () => {
  const words = [
    "reason",
    "=",
    "~",
    "in",
    "(",
    ")",
    ",",
    "and",
    '"',
    '"a\\"b"',
    "header.",
    "age",
    ">",
    "1h",
    "since",
    "x",
    " ",
  ];
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constantFrom(...words), fc.string())), (parts) => {
      let read: DeadLetterFilter;
      try {
        read = parseFilter(parts.join(" "));
      } catch (error) {
        expect(error).toBeInstanceOf(MessagingError);
        expect((error as MessagingError).code).toBe("invalid");
        return;
      }
      expect(parseFilter(printFilter(read))).toEqual(read);
    }),
    { numRuns: 2_000 },
  );
});

test("the text form", () => {
  const given = `reason = attempts AND error ~ "time out" and age > 1h and header.tenant = acme and header."x y" !~ z`;
  expect(parseFilter(given)).toEqual([
    { field: "reason", is: "=", value: "attempts" },
    { field: "error", is: "~", value: "time out" },
    { field: "age", is: ">", value: 3_600_000 },
    { field: "header", name: "tenant", is: "=", value: "acme" },
    { field: "header", name: "x y", is: "!~", value: "z" },
  ]);
  expect(printFilter(parseFilter(given))).toBe(
    `reason = attempts and error ~ "time out" and age > 1h and header.tenant = acme and header."x y" !~ z`,
  );
  expect(parseFilter("id in (a, b) and since 2026-11-01T00:00:00Z and until 2026-11-02 and attempts>=3")).toEqual([
    { field: "id", is: "in", value: ["a", "b"] },
    { field: "time", is: ">=", value: "2026-11-01T00:00:00.000Z" },
    { field: "time", is: "<", value: "2026-11-02T00:00:00.000Z" },
    { field: "attempts", is: ">=", value: 3 },
  ]);
  expect(parseFilter("all")).toEqual([]);
  expect(printFilter([])).toBe("all");
});

test.for([
  ["", 'use "all"'],
  ["all and id = a", "character 5"],
  ["reason", "character 7, its end: expected = != ~ !~ in"],
  ["reason attempts", 'character 8, "attempts": expected = != ~ !~ in'],
  ["reson = attempts", 'character 1, "reson = attempts": expected id, destination'],
  ["age > soon", 'character 7, "soon": expected an age such as'],
  ["age = 1h", "expected < <= > >="],
  ["attempts > 1.5", "expected an integer from 0 up"],
  ["time > yesterday", "expected an ISO 8601 time"],
  ["id in ()", "expected a text"],
  ["id in (a b)", "expected , )"],
  ["id = a id = b", 'character 8, "id = b": expected and'],
  ['id = "a', "expected a word, an operator, or a text in double quotes"],
  ['id = "\\x"', "escaped as in JSON"],
  ["header. = a", "the name of a header"],
  ["a".repeat(10_001), "at most 10000 characters"],
] as const)("%s is refused with what was expected", ([given, expected]) => {
  expect(() => parseFilter(given)).toThrow(expected);
});

test.for([
  [[{ field: "colour", is: "=", value: "blue" }], "has no field colour"],
  [[{ field: "reason", is: "like", value: "x" }], "takes =, !=, ~, !~, in"],
  [[{ field: "reason", is: "=", value: 3 }], "takes a string"],
  [[{ field: "reason", is: "in", value: [] }], "takes a list of strings"],
  [[{ field: "header", is: "=", value: "x" }], "takes a name"],
  [[{ field: "attempts", is: "~", value: 3 }], "takes ="],
  [[{ field: "attempts", is: "=", value: -1 }], "an integer from 0 up"],
  [[{ field: "age", is: ">", value: "1h" }], "integer milliseconds"],
  [[{ field: "time", is: ">", value: "soon" }], "ISO 8601"],
  [[null], "has no field undefined"],
  [{ reason: "attempts" }, "takes a filter"],
] as const)("conditions that are none are refused: %j", ([given, expected]) => {
  expect(() => filterOf("list", given as unknown as DeadLetterFilter)).toThrow(expected);
});

describe("a dead letter is selected", () => {
  const letter = new DeadLetter(incomingDeadLetter({ id: "m-1", key: "k", headers: { tenant: "acme" } }), "orders");
  const matches = (given: string): boolean => matcher(parseFilter(given), NOW)(letter);

  test.for([
    "all",
    "id = m-1",
    `id = ${letter.id}`,
    "id in (x, m-1)",
    "destination = orders",
    "reason = attempts and key = k",
    `group = ${letter.group}`,
    "error ~ TIMEOUT",
    "error = TypeError",
    "error !~ refused",
    "attempts = 5 and attempts != 4 and attempts < 6 and attempts <= 5 and attempts > 4 and attempts >= 5",
    "replays = 0",
    "age > 59m and age < 61m",
    "since 2026-11-01 and until 2026-11-03",
    "header.tenant = acme",
    "header.tenant ~ ACM",
    "header.other != x",
    "header.other !~ x",
  ])("by %s", (given) => expect(matches(given)).toBe(true));

  test.for([
    "id = m-2",
    "id != m-1",
    "reason = invalid",
    "error ~ refused",
    "error !~ timeout",
    "attempts > 5",
    "age > 2h",
    "until 2026-11-01",
    "header.tenant = other",
    "header.other = x",
    "header.other in (x)",
    "reason = attempts and key = other",
  ])("and not by %s", (given) => expect(matches(given)).toBe(false));

  test("one without a time or a count is found by neither, only by what it is not", () => {
    const bare = new DeadLetter(incomingDeadLetter({ id: "foreign", dead: {} }), "orders");
    for (const given of ["attempts > 0", "attempts < 9", "age > 0ms", "since 1970-01-01"]) {
      expect(matcher(parseFilter(given), NOW)(bare), given).toBe(false);
    }
    expect(matcher(parseFilter("attempts != 3 and reason = unknown"), NOW)(bare)).toBe(true);
  });
});
