import { expect, test } from "vitest";
import { inexactNumbers, roundedNumber } from "../../core/codec.ts";

test.each([
  "0",
  "-0",
  "12.10",
  "1e3",
  "1E+3",
  "9007199254740991",
  "9007199254740992",
  "1e23",
  "1.7976931348623157e308",
  "5e-324",
  "0.1000000000000000055511151231257827021181583404541015625",
  "0.10000000000000001",
  "0.30000000000000004",
  "100000000000000000000",
  '"12345678901234567890 and \\" 9007199254740993"',
])("JavaScript keeps %s", (text) => {
  expect(inexactNumbers(text)).toEqual([]);
  expect(inexactNumbers(`{"a":[${text}]}`)).toEqual([]);
});

test.each([
  "9007199254740993",
  "-9007199254740993",
  "12345678901234567890",
  "1e400",
  "5e-400",
  "90071992547409.935",
  "0.1234567890123456789012345",
  "9007199254740993.0",
])("JavaScript does not keep %s", (text) => {
  expect(inexactNumbers(text)).toEqual([text]);
  expect(inexactNumbers(`{"9007199254740993":[1,${text}],"b":"x"}`)).toEqual([text]);
});

test("a text made of another holds a number rounded only where it took it over", () => {
  const before = '{"id":9007199254740993,"total":1}';
  expect(roundedNumber(before, '{"id":9007199254740992,"total":2}')).toBe("9007199254740993");
  expect(roundedNumber(before, '{"total":2,"list":[9007199254740992]}')).toBe("9007199254740993");
  expect(roundedNumber(before, '{"id":9007199254740993,"total":2}')).toBeUndefined();
  expect(roundedNumber(before, '{"id":"9007199254740993","total":2}')).toBeUndefined();
  expect(roundedNumber(before, '{"total":2}')).toBeUndefined();
});
