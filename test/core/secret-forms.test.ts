import { expect, test } from "vitest";
import { oneLine } from "../../core/foreign.ts";
import { secretForms, withoutForms, withoutPieces } from "../../core/secret-forms.ts";

const SECRET = "c4n4ry s3cret/ü!?~";
const forms = secretForms(SECRET, "ada");
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const hex = (text: string): string => Buffer.from(text).toString("hex");

test.each([
  ["plain", SECRET],
  ["JSON", JSON.stringify(SECRET)],
  ["URL", encodeURIComponent(SECRET)],
  ["URL in lower case", encodeURIComponent(SECRET).toLowerCase()],
  ["form", new URLSearchParams({ a: SECRET }).toString()],
  ["base64", base64(SECRET)],
  ["base64url", Buffer.from(SECRET).toString("base64url")],
  ["SASL PLAIN", base64(`\0ada\0${SECRET}`)],
  ["HTTP Basic", base64(`ada:${SECRET}`)],
  ["hex", hex(SECRET)],
  ["hex in capitals", hex(SECRET).toUpperCase()],
  ["hex of SASL PLAIN", hex(`\0ada\0${SECRET}`)],
])("a secret is masked as %s", (_what, quoted) => {
  const text = `before ${quoted} after`;
  expect(withoutForms(text, forms)).toMatch(/^before ["a=]*\*\*\*["=]* after$/);
});

test("a secret is masked in base64 whatever stands around it", () => {
  for (const before of ["", "a", "ab", "abc", "another user:"]) {
    for (const after of ["", "x", "xy", "xyz"]) {
      const left = withoutForms(base64(`${before}${SECRET}${after}`), forms).replaceAll("***", "");
      expect(left.length).toBeLessThan(base64(`${before}${after}`).length + 8);
    }
  }
});

test("a long piece of a secret is masked, and a short secret is none", () => {
  const token = Array.from({ length: 200 }, (_, n) => hex(String(n * 7919))).join(".");
  expect(withoutPieces(`it is ${token.slice(0, 150)}`, secretForms(token))).toBe("it is ***");
  expect(withoutPieces(`it is ${base64(token).slice(40, 200)}.`, secretForms(token))).toBe("it is ***.");
  expect(secretForms("abc")).toEqual([]);
});

test("a foreign text is one line of characters that can be seen, and bounded", () => {
  expect(oneLine("a\u001b[2J\r\n\u202eb\u2028\ud800", 100)).toBe("a?[2J???b?\ufffd");
  expect(oneLine("x".repeat(1_000), 10)).toBe(`${"x".repeat(9)}…`);
});
