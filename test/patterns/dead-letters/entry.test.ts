import { stringifyEntry } from "anybroker/dead-letters";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { memory } from "../../../adapters/memory/index.ts";
import { jsonCodec } from "../../../core/codec.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { DeadLetter, Originals } from "../../../patterns/dead-letters/dead-letter.ts";
import { entryBody, entryOf } from "../../../patterns/dead-letters/entry.ts";
import { incomingDeadLetter } from "./letters.ts";

const address = { kind: "queue", name: "orders" } as const;
const of = { kind: "dead-letters", of: address } as const;
const source = {
  address,
  deadLetters: of,
  originals: new Originals({ adapter: memory() }, of),
  name: "orders",
  ordered: false,
  codec: jsonCodec(),
  schema: undefined,
} as const;
const letter = (given: Parameters<typeof incomingDeadLetter>[0]) => new DeadLetter(incomingDeadLetter(given), "orders");

describe("a body", () => {
  test("comes back from its JSON, byte for byte, whatever it is", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.string({ unit: "binary" }).map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          const { body, bodyEncoding, bodyCut } = entryBody(bytes, Number.POSITIVE_INFINITY);
          const read = JSON.parse(stringifyEntry({ body })) as { body: string };
          expect(Buffer.from(read.body, bodyEncoding === "text" ? "utf8" : "base64").compare(bytes)).toBe(0);
          expect(bodyCut).toBe(false);
        },
      ),
    );
  });

  test("is text where nothing in it could do anything to a terminal", () => {
    expect(entryBody(Buffer.from("Zürich\t\r\n😀"), 99)).toMatchObject({
      body: "Zürich\t\r\n😀",
      bodyEncoding: "text",
    });
    for (const hostile of ["\u001b[2J", "a\u0000b", "\u009b2J", "\u202eabc", "\u2066", "\ufeff{}"]) {
      expect(entryBody(Buffer.from(hostile), 99), JSON.stringify(hostile)).toMatchObject({ bodyEncoding: "base64" });
    }
    expect(entryBody(Buffer.from([0xff, 0xfe]), 99)).toMatchObject({ body: "//4=", bodyEncoding: "base64" });
  });

  test("is cut between characters, and says so", () => {
    expect(entryBody(Buffer.from("aü😀"), 3)).toEqual({ body: "aü", bodyEncoding: "text", bodyCut: true });
    expect(entryBody(Buffer.from("aü😀"), 2)).toEqual({ body: "a", bodyEncoding: "text", bodyCut: true });
    expect(entryBody(Buffer.from("aü😀"), 6)).toEqual({ body: "aü", bodyEncoding: "text", bodyCut: true });
    expect(entryBody(Buffer.from("aü😀"), 7)).toEqual({ body: "aü😀", bodyEncoding: "text", bodyCut: false });
    expect(entryBody(Buffer.from([255, 1, 2]), 0)).toEqual({ body: "", bodyEncoding: "base64", bodyCut: true });
  });
});

test("what stands in headers and errors is escaped when it is printed, and the same when it is read", () => {
  const headers = { "\u202eevil": "\u009b2J\u2028\u007f" };
  const printed = stringifyEntry({ headers });
  expect(printed).toBe('{"headers":{"\\u202eevil":"\\u009b2J\\u2028\\u007f"}}');
  expect(JSON.parse(printed)).toEqual({ headers });
});

describe("an id", () => {
  const given = { id: "m", key: "k", headers: { a: "1", b: "2" } };

  test("is the same whenever it is looked at, in whatever order its headers come", () => {
    expect(letter(given).id).toBe(letter({ ...given, headers: { b: "2", a: "1" } }).id);
    expect(letter(given).id).toMatch(/^[\w-]{22}$/);
  });

  test("is another for anything that differs, also how it failed; the content is not", () => {
    const again = { ...incomingDeadLetter(given).headers, [HEADER.deadLastAt]: "2026-12-01T00:00:00.000Z" };
    const others = [
      { ...given, id: "n" },
      { ...given, key: "l" },
      { ...given, headers: { a: "12", b: "" } },
      { ...given, headers: { a: "1" } },
      { ...given, body: "{}" },
      { ...given, dead: again },
    ];
    const all = [given, ...others].map((one) => letter(one));
    expect(new Set(all.map(({ id }) => id)).size).toBe(7);
    expect(all.at(-1)?.content).toBe(all[0]?.content);
    expect(new Set(all.map(({ content }) => content)).size).toBe(6);
  });
});

describe("an entry", () => {
  test("says whether its destination takes it today, also by a schema that takes its time", async () => {
    const schema = z.object({ n: z.number() });
    const slow = z.object({ n: z.number().refine(async (n) => n > 0) });
    for (const [body, valid] of [
      ['{"n":1}', true],
      ['{"n":"x"}', false],
      ["{", false],
    ] as const) {
      expect(entryOf(letter({ id: "m", body }), { ...source, schema }, 99)).toMatchObject({ valid });
      expect(await entryOf(letter({ id: "m", body }), { ...source, schema: slow }, 99)).toMatchObject({ valid });
    }
  });

  test("has null for what nobody wrote down", () => {
    expect(entryOf(letter({ id: "foreign", dead: {} }), source, 99)).toMatchObject({
      reason: "unknown",
      errorClass: null,
      error: null,
      attempts: null,
      firstFailedAt: null,
      lastFailedAt: null,
      firstPublishedAt: null,
      key: null,
    });
  });

  test("knows when it was published by its id, or by what the engine wrote", () => {
    const made = Date.UTC(2026, 10, 1);
    const id = `${made
      .toString(16)
      .padStart(12, "0")
      .replace(/^(.{8})/, "$1-")}-7000-8000-000000000000`;
    expect(letter({ id }).firstPublishedAt).toBe(made);
    expect(letter({ id: "x", headers: { [HEADER.publishedAt]: "5" } }).firstPublishedAt).toBe(5);
    expect(letter({ id: "x", headers: { [HEADER.publishedAt]: "-5" } }).firstPublishedAt).toBe(-5);
    expect(letter({ id: "x", headers: { [HEADER.publishedAt]: "9007199254740991" } }).firstPublishedAt).toBeUndefined();
  });
});
