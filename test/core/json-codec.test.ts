import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jsonCodec } from "../../core/index.ts";

const CANARY = "canary-4f1b";

function thrownBy(run: () => unknown): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
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

  it("refuses what JSON cannot carry, and never with its content", () => {
    const cycle: Record<string, unknown> = { [CANARY]: CANARY };
    cycle.self = cycle;
    const wrong = [undefined, () => CANARY, Symbol(CANARY), 1n, { [CANARY]: 1n }, cycle];
    const toJSON = {
      toJSON: () => {
        throw new Error(CANARY);
      },
    };
    for (const body of [...wrong, toJSON]) expect(thrownBy(() => codec.encode(body)).message).not.toContain(CANARY);
  });
});
