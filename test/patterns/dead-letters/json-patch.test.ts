import { applyJsonPatch, type JsonPatch, jsonPatchOf } from "anybroker/dead-letters";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const patch = (...operations: readonly object[]): JsonPatch => jsonPatchOf("test", operations);

describe("a JSON patch (RFC 6902, appendix A)", () => {
  test.for<[string, unknown, readonly object[], unknown]>([
    ["A.1", { foo: "bar" }, [{ op: "add", path: "/baz", value: "qux" }], { baz: "qux", foo: "bar" }],
    ["A.2", { foo: ["bar", "baz"] }, [{ op: "add", path: "/foo/1", value: "qux" }], { foo: ["bar", "qux", "baz"] }],
    ["A.3", { baz: "qux", foo: "bar" }, [{ op: "remove", path: "/baz" }], { foo: "bar" }],
    ["A.4", { foo: ["bar", "qux", "baz"] }, [{ op: "remove", path: "/foo/1" }], { foo: ["bar", "baz"] }],
    ["A.5", { baz: "qux", foo: "bar" }, [{ op: "replace", path: "/baz", value: "boo" }], { baz: "boo", foo: "bar" }],
    [
      "A.6",
      { foo: { bar: "baz", waldo: "fred" }, qux: { corge: "grault" } },
      [{ op: "move", from: "/foo/waldo", path: "/qux/thud" }],
      { foo: { bar: "baz" }, qux: { corge: "grault", thud: "fred" } },
    ],
    [
      "A.7",
      { foo: ["all", "grass", "cows", "eat"] },
      [{ op: "move", from: "/foo/1", path: "/foo/3" }],
      { foo: ["all", "cows", "eat", "grass"] },
    ],
    [
      "A.8",
      { baz: "qux", foo: ["a", 2, "c"] },
      [
        { op: "test", path: "/baz", value: "qux" },
        { op: "test", path: "/foo/1", value: 2 },
      ],
      { baz: "qux", foo: ["a", 2, "c"] },
    ],
    [
      "A.10",
      { foo: "bar" },
      [{ op: "add", path: "/child", value: { grandchild: {} } }],
      { foo: "bar", child: { grandchild: {} } },
    ],
    ["A.11", { foo: "bar" }, [{ op: "add", path: "/baz", value: "qux", xyz: 123 }], { foo: "bar", baz: "qux" }],
    ["A.14", { "/": 9, "~1": 10 }, [{ op: "test", path: "/~01", value: 10 }], { "/": 9, "~1": 10 }],
    [
      "A.16",
      { foo: ["bar"] },
      [{ op: "add", path: "/foo/-", value: ["abc", "def"] }],
      { foo: ["bar", ["abc", "def"]] },
    ],
    ["the whole", { foo: 1 }, [{ op: "replace", path: "", value: [1] }], [1]],
    ["a copy", { a: { b: 1 } }, [{ op: "copy", from: "/a", path: "/c" }], { a: { b: 1 }, c: { b: 1 } }],
    ["an empty name", { "": 1 }, [{ op: "replace", path: "/", value: 2 }], { "": 2 }],
  ])("%s", ([, before, operations, after]) => {
    const given = structuredClone(before);
    expect(applyJsonPatch(given, patch(...operations))).toEqual(after);
    expect(given).toEqual(before);
  });

  test.for<[string, unknown, object, string]>([
    ["A.9", { baz: "qux" }, { op: "test", path: "/baz", value: "bar" }, "/baz has another value"],
    ["A.12", { foo: "bar" }, { op: "add", path: "/baz/bat", value: "qux" }, "nothing that could hold /baz/bat"],
    ["A.15", { "~1": 10 }, { op: "test", path: "/~01", value: "10" }, "another value"],
    ["a place beyond", { foo: [1] }, { op: "add", path: "/foo/2", value: 1 }, "no index of that list"],
    ["a leading zero", { foo: [1, 2] }, { op: "remove", path: "/foo/01" }, "nothing at /foo/01"],
    ["into itself", { a: {} }, { op: "move", from: "/a", path: "/a/b" }, "into itself"],
    ["nothing there", {}, { op: "replace", path: "/a", value: 1 }, "nothing at /a"],
    ["a prototype", {}, { op: "add", path: "/__proto__/polluted", value: 1 }, "nothing that could hold"],
    ["a list's own", [], { op: "add", path: "/length", value: 9 }, "no index of that list"],
    ["an undefined body", undefined, { op: "add", path: "/a", value: 1 }, "nothing that could hold"],
  ])("does not fit: %s", ([, before, operation, problem]) => {
    expect(() => applyJsonPatch(before, patch(operation))).toThrow(problem);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  test("is refused where it is none, with the operation", () => {
    for (const [given, problem] of [
      [[], "at least one operation"],
      ["x", "a list of at least one operation"],
      [[{ op: "add", path: "/a" }], "operation 0 (add) has no value"],
      [
        [
          { op: "remove", path: "/a" },
          { op: "remove", path: "a" },
        ],
        "operation 1 (remove) has no path",
      ],
      [[{ op: "move", path: "/a" }], "has no from"],
      [[{ op: "set", path: "/a" }], "none of add, remove"],
      [[null], "none of add"],
      [[{ op: "remove", path: "/a~2" }], "no path"],
    ] as const) {
      expect(() => jsonPatchOf("test", given)).toThrow(problem);
    }
  });

  test("puts anything at any name, and takes it away again", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), fc.jsonValue(), (body, name, value) => {
        const path = `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
        const added = applyJsonPatch(body, patch({ op: "add", path, value })) as Record<string, unknown>;
        expect(Object.hasOwn(added, name)).toBe(true);
        const removed = applyJsonPatch(added, patch({ op: "test", path, value }, { op: "remove", path }));
        expect(Object.keys(removed as object).sort()).toEqual(
          Object.keys(body)
            .filter((one) => one !== name)
            .sort(),
        );
      }),
    );
  });
});
