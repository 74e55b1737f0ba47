import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bytesCodec, jsonCodec } from "../../core/codec.ts";
import type { MessagingError } from "../../core/errors.ts";

const CANARY = "canary-4f1b";

function thrownBy(run: () => unknown): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

/** `JSON.rawJSON`, which the types do not know. */
function rawJson(text: string): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(text);
}

describe("jsonCodec", () => {
  const codec = jsonCodec();

  it("carries every JSON value there and back", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 20 }), (value) => {
        fc.pre(!/__proto__|"constructor"/.test(JSON.stringify(value)));
        expect(codec.decode(codec.encode(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  const FORBIDDEN = [
    `{"__proto__":{"a":"${CANARY}"}}`,
    `{"a":[{"__proto__":"${CANARY}"}]}`,
    `{"\\u005f_proto__":"${CANARY}"}`,
    `{"__proto\\u005f_" : "${CANARY}"}`,
    `{"constructor":{"prototype":"${CANARY}"}}`,
    `{"c\\u006fnstructor" : {"prototype":"${CANARY}"}}`,
    `{"a":{"constructor":{"b":1,"proto\\u0074ype":"${CANARY}"}}}`,
  ];

  it("refuses keys that reach for a prototype, escaped or not", () => {
    for (const text of FORBIDDEN) {
      const error = thrownBy(() => codec.decode(Buffer.from(text)));
      expect(error.message, text).toContain("forbidden");
      expect(error.message).not.toContain(CANARY);
    }
    expect(({} as { a?: string }).a).toBeUndefined();
  });

  it("refuses them when they are sent, too", () => {
    expect(() => codec.encode(JSON.parse(`{"__proto__":1}`))).toThrow("forbidden");
    expect(() => codec.encode({ constructor: { prototype: 1 } })).toThrow("forbidden");
    expect(codec.decode(codec.encode({ constructor: "a name", text: "__proto__" }))).toEqual({
      constructor: "a name",
      text: "__proto__",
    });
  });

  it("refuses what is nested deeper than it may be, in both directions, and no less", () => {
    const shallow = jsonCodec({ maxDepth: 5 });
    const nested = (depth: number): unknown =>
      depth === 0 ? 1 : depth % 2 === 0 ? [nested(depth - 1)] : { a: nested(depth - 1) };
    expect(shallow.decode(shallow.encode(nested(5)))).toEqual(nested(5));
    expect(() => shallow.encode(nested(6))).toThrow("deeper than 5");
    expect(() => shallow.decode(Buffer.from(JSON.stringify(nested(6))))).toThrow("deeper than 5");
    expect(() => codec.decode(Buffer.from("[".repeat(1_000_000)))).toThrow("deeper than 64");
    const brackets = { text: '[{[{[{[{[{[{"\\[{[' };
    expect(shallow.decode(shallow.encode(brackets))).toEqual(brackets);
  });

  it("refuses more values than maxValues, before anything is built from them", () => {
    const few = jsonCodec({ maxValues: 10 });
    const text = { text: '[,{,"\\",[,'.repeat(20) };
    expect(few.decode(few.encode(text))).toEqual(text);
    expect(few.decode(few.encode([1, 2, 3, 4, 5]))).toEqual([1, 2, 3, 4, 5]);
    expect(() => few.encode(Array.from({ length: 30 }, () => 1))).toThrow("more than 10 values");
    expect(() => few.decode(Buffer.from(JSON.stringify(Array.from({ length: 30 }, () => ({})))))).toThrow(
      "more than 10",
    );
    for (const filling of ["[],", "1,", '{"a":[]},', '"",']) {
      const bomb = Buffer.from(`[${filling.repeat(2_000_000)}1]`);
      expect(() => codec.decode(bomb), filling).toThrow("more than 250000 values");
    }
    const long = "x".repeat(3_000_000);
    expect(codec.decode(codec.encode([long, '"\\'.repeat(500_000)]))).toEqual([long, '"\\'.repeat(500_000)]);
  });

  it("throws on anything that is not JSON, and never with its content", () => {
    const wrong = [`{"a":"${CANARY}"`, CANARY, `"${CANARY}`, "", `{"a":${CANARY}}`, `[1,"${CANARY}",]`];
    for (const text of wrong) expect(thrownBy(() => codec.decode(Buffer.from(text))).message).not.toContain(CANARY);
    expect(() => codec.decode(Buffer.from([0x22, 0xff, 0x22]))).toThrow();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          codec.decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });

  class Plain {
    readonly id = "o-1";
  }
  class Hidden {
    readonly #secret = CANARY;
    shown(): string {
      return this.#secret;
    }
  }
  class NamedMap extends Map<string, string> {
    readonly name = "a name";
  }
  const cycle: Record<string, unknown> = { id: CANARY, items: [1] };
  cycle.items = [1, cycle];
  const throwing = () => {
    throw new Error(CANARY);
  };

  it.each<[string, unknown, readonly (string | number)[]]>([
    ["nothing", undefined, []],
    ["a function", () => CANARY, []],
    ["a symbol", Symbol(CANARY), []],
    ["a BigInt", { lines: [{ total: 1n }] }, ["lines", 0, "total"]],
    ["a BigInt in a wrapper", { total: Object(1n) }, ["total"]],
    ["NaN", { lines: [{ price: 1 }, { price: Number.NaN }] }, ["lines", 1, "price"]],
    ["an infinity", [0, Number.NEGATIVE_INFINITY], [1]],
    ["NaN in a wrapper", { price: Object(Number.NaN) }, ["price"]],
    ["NaN that toJSON gives", { price: { toJSON: () => ({ amount: Number.NaN }) } }, ["price", "amount"]],
    ["a Map", { byId: new Map([[CANARY, 1]]) }, ["byId"]],
    ["a Map with properties of its own", { byId: new NamedMap([[CANARY, CANARY]]) }, ["byId"]],
    ["a Set", { tags: new Set([CANARY]) }, ["tags"]],
    ["an Error", { cause: Object.assign(new Error(CANARY), { code: CANARY }) }, ["cause"]],
    ["a RegExp", { pattern: /canary/ }, ["pattern"]],
    ["a promise", { later: Promise.resolve(CANARY) }, ["later"]],
    ["a RegExp with properties of its own", { pattern: Object.assign(/canary/, { a: 1 }) }, ["pattern"]],
    ["a promise with properties of its own", { later: Object.assign(Promise.resolve(), { a: CANARY }) }, ["later"]],
    ["a WeakMap with properties of its own", Object.assign(new WeakMap(), { a: 1 }), []],
    ["properties of an array", { items: Object.assign([1, 2], { total: CANARY }) }, ["items"]],
    ["properties of a list", Object.assign([], { total: 3 }), []],
    ["properties of a wrapper", { total: Object.assign(Object(1), { a: CANARY }) }, ["total"]],
    ["raw JSON that is read as something else", { id: rawJson("12345678901234567890") }, ["id"]],
    ["an instance that hides all it holds", { token: new Hidden() }, ["token"]],
    ["undefined in an array", { items: [1, undefined] }, ["items", 1]],
    // biome-ignore lint/suspicious/noSparseArray: it is what is sent
    ["a hole in an array", { items: [1, , 2] }, ["items", 1]],
    ["a function in a property", { next: () => CANARY }, ["next"]],
    ["a symbol in a property", { kind: Symbol(CANARY) }, ["kind"]],
    ["a Buffer", { bytes: Buffer.from(CANARY) }, ["bytes"]],
    ["a typed array", { bytes: new Float64Array(2) }, ["bytes"]],
    ["a buffer of memory", { bytes: new ArrayBuffer(2) }, ["bytes"]],
    ["a Date that is no date", { at: new Date(Number.NaN) }, ["at"]],
    ["a cycle", cycle, ["items", 1]],
    ["a toJSON that throws", { id: "o-1", total: { toJSON: throwing } }, ["total"]],
    ["a getter that throws", Object.defineProperty({}, "total", { enumerable: true, get: throwing }), ["total"]],
    ["anything under a key that is data", { [`${CANARY}@example.com`]: { price: Number.NaN } }, ["[key]", "price"]],
  ])("refuses %s, with the place and without the content", (_, body, path) => {
    const error = thrownBy(() => codec.encode(body)) as MessagingError;
    expect(error).toMatchObject({ code: "invalid", issues: [{ path, code: "not-carried", message: error.message }] });
    expect(error.message).not.toContain(CANARY);
    expect(codec.keeps?.(body)).toBe(false);
  });

  it("makes of a body what JSON.stringify does, where that loses nothing", () => {
    const bodies: readonly unknown[] = [
      { at: new Date(0), link: new URL("https://example.com/a"), total: { toJSON: () => [1] } },
      { plain: new Plain(), list: [new Plain()], boxed: [Object(1), Object("a"), Object(true)] },
      { left: undefined, out: { toJSON: () => undefined }, kept: null, at: new Date(0) },
      { negative: -0, text: "\ud800", at: new Date(0) },
      Object.assign(Object.create(null), { at: new Date(0) }),
      new Date(0),
      { price: rawJson("1.50"), text: rawJson('"9007199254740993"') },
      "text",
      null,
    ];
    for (const body of bodies) expect(Buffer.from(codec.encode(body)).toString()).toBe(JSON.stringify(body));
  });

  it("says that it keeps what comes back as it is, and nothing else", () => {
    for (const body of [{ id: "o-1", lines: [{ price: 1.5, note: null, paid: true }] }, [], "text", 1, null]) {
      expect(codec.keeps?.(body)).toBe(true);
    }
    for (const body of [{ note: undefined }, { at: new Date(0) }, new Plain(), { boxed: Object(1) }, rawJson("1")]) {
      expect(codec.keeps?.(body)).toBe(false);
    }
    expect(bytesCodec.keeps?.(new Uint8Array(1))).toBe(true);
    expect(bytesCodec.keeps?.(Buffer.alloc(1))).toBe(false);
  });
});
