import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Column, columns } from "../../cli/columns.ts";
import { paintOf } from "../../cli/terminal.ts";

const NAMES: readonly Column[] = [{ name: "ID", when: "whole" }, "ERROR", { name: "KEY", when: "cut" }];
const ID = "Zx0fJ0oY5vZ5k8h1kq3b2A";
const WORDS = "the connection to the database was lost while the order was written";

/** Lines as they are seen, for a terminal of so many columns. */
const drawn = (rows: readonly (readonly string[])[], width?: number, colours = false): string[] =>
  stripVTControlCharacters(columns(paintOf(colours, width), NAMES, rows)).split("\n");

describe("columns", () => {
  test("stand side by side where there is room", () => {
    expect(drawn([["1", "oops", "k"]], 80)).toEqual(["ID  ERROR  KEY", "1   oops   k"]);
  });

  test("are made narrower: texts are wrapped between words, and what is only to be recognised is cut", () => {
    const lines = drawn([[ID, WORDS, "k".repeat(40)]], 60);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(60);
    expect(lines[0]).toMatch(/^ID +ERROR +KEY$/);
    expect(lines[1]).toContain(ID);
    expect(lines.join("\n")).toMatch(/k{3,}…/);
    const column = lines.slice(1).map((line) => line.slice(ID.length + 2));
    expect(column.join(" ").replaceAll(/k+…/g, "").replaceAll(/ +/g, " ").trim()).toBe(WORDS);
  });

  test("become a list of cells where they do not fit, and nothing is left out", () => {
    const lines = drawn([[ID, WORDS, "key"]], 34);
    expect(lines[0]).toBe(`ID     ${ID}`);
    expect(lines.at(-1)).toBe("KEY    key");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(34);
    expect(lines.map((line) => line.slice(7)).join(" ")).toContain(WORDS);
  });

  test("keep their ids whole, whatever it costs", () => {
    const id = "i".repeat(300);
    expect(drawn([[id, "e", "k"]], 60)[0]).toContain(id);
    expect(drawn([[id, "e", "k"]]).join("\n")).toContain(id);
  });

  test("are not widened by a key of 5,000 characters, in a file either", () => {
    const [, line = ""] = drawn([[ID, "oops", "k".repeat(5_000)]]);
    expect(line.length).toBeLessThan(120);
    expect(line).toMatch(/k…$/);
  });

  test("are never wider than the terminal, in any script", () => {
    const text = fc.string({ unit: fc.constantFrom("a", " ", "漢", "🙂", "é", "-"), maxLength: 200 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(text, text, text), { maxLength: 4 }),
        fc.integer({ min: 30, max: 120 }),
        (rows, width) => {
          const short = rows.map(([id, ...others]) => [id.slice(0, 4), ...others]);
          const places = (line: string) => [...line].reduce((sum, one) => sum + (/[漢🙂]/u.test(one) ? 2 : 1), 0);
          expect(Math.max(...drawn(short, width, true).map(places))).toBeLessThanOrEqual(width);
        },
      ),
    );
  });
});
