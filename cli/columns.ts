import { stripVTControlCharacters } from "node:util";
import Table from "cli-table3";
import { type Paint, printable } from "./terminal.ts";

const NO_LINES = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "",
};
const GAP = 2;
/** The least width of a column. */
const NARROWEST = 10;
/** The most characters of a cell that may be cut, if the output has no width. */
const LONGEST_CUT = 60;
/** Characters of two columns of a terminal, and of none. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const WIDTHLESS = /\p{Mn}|\p{Me}/u;

/** A cell: a text from outside, or one that a {@link Paint} made. */
export type Cell = string | number | null | undefined | { readonly painted: string };

/** The name of a column, and what is done with its cells if there is no room. Default `wrapped`. */
export type Column =
  | string
  | {
      readonly name: string;
      /** `whole` for cells to copy, such as an id; `cut` for cells that may be truncated. */
      readonly when: "whole" | "cut";
    };

/**
 * Formats rows in columns with headings. Null is shown as `-`. On a terminal, no line is wider than it: the widest columns are
 * made narrower; if that is not enough, each row is shown as a list of its cells.
 */
export function columns(paint: Paint, names: readonly Column[], rows: readonly (readonly Cell[])[]): string {
  const heads = names.map((column) => (typeof column === "string" ? column : column.name));
  // Painted cells are not cut, since their colours would not end.
  const isPainted = (index: number): boolean =>
    rows.some((row) => typeof row[index] === "object" && row[index] !== null);
  const modes = names.map((column, index) => {
    if (isPainted(index)) return "whole";
    return typeof column === "string" ? "wrapped" : column.when;
  });
  const cells = rows.map((row) =>
    row.map((cell, index) => (modes[index] === "cut" ? cut(shown(cell), LONGEST_CUT) : shown(cell))),
  );
  const natural = heads.map((head, index) => Math.max(...[head, ...cells.map((row) => row[index] ?? "")].map(widthOf)));
  const widths = fitted(natural, modes, paint.width);
  if (widths === undefined) return listed(paint, heads, cells, (index) => modes[index] === "whole");
  const table = new Table({
    chars: NO_LINES,
    style: { head: [], border: [], "padding-left": 0, "padding-right": GAP, compact: true },
    head: heads.map((head) => paint.dim(head)),
    colWidths: widths.map((width) => width + GAP),
  });
  for (const row of cells) {
    table.push(row.map((cell, index) => (modes[index] === "cut" ? cut : wrapped)(cell, widths[index] ?? NARROWEST)));
  }
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

/** The width of each column; undefined if they do not fit. */
function fitted(
  natural: readonly number[],
  modes: readonly string[],
  most: number | undefined,
): readonly number[] | undefined {
  if (most === undefined) return natural;
  const widths = [...natural];
  // No gap after the last column.
  const over = (): number => widths.reduce((sum, width) => sum + width + GAP, -GAP) - most;
  while (over() > 0) {
    const [widest] = widths
      .map((width, index) => ({ width, index }))
      .filter(({ width, index }) => modes[index] !== "whole" && width > NARROWEST)
      .sort((one, other) => other.width - one.width);
    if (widest === undefined) return undefined;
    widths[widest.index] = Math.max(NARROWEST, widest.width - Math.max(1, Math.floor(over() / 4)));
  }
  return widths;
}

/** Formats each row as lines of name and cell, with a blank line between rows. */
function listed(
  paint: Paint,
  heads: readonly string[],
  cells: readonly (readonly string[])[],
  isWhole: (column: number) => boolean,
): string {
  const widest = Math.max(...heads.map((head) => head.length)) + GAP;
  const room = Math.max(NARROWEST, (paint.width ?? Number.POSITIVE_INFINITY) - widest);
  const indented = (cell: string): string => wrapped(cell, room).replaceAll("\n", `\n${" ".repeat(widest)}`);
  const rows = cells.map((row) =>
    row
      .map((cell, index) => ({ head: heads[index] ?? "", cell: isWhole(index) ? cell : indented(cell) }))
      .filter(({ head, cell }) => head !== "" || cell !== "")
      .map(({ head, cell }) => `${paint.dim(head.padEnd(widest))}${cell}`.trimEnd())
      .join("\n"),
  );
  return rows.length === 0 ? heads.map((head) => paint.dim(head)).join("  ") : rows.join("\n\n");
}

function widthOf(text: string): number {
  return [...stripVTControlCharacters(text)].reduce(
    (width, one) => width + (WIDE.test(one) ? 2 : WIDTHLESS.test(one) ? 0 : 1),
    0,
  );
}

/** Truncates a text to a width. Painted text is short, and stays. */
function cut(text: string, most: number): string {
  return fits(text, most) ? text : `${beginning(text, most - 1)}…`;
}

/** Breaks a text into lines of a width, between words if possible. */
function wrapped(text: string, most: number): string {
  if (fits(text, most)) return text;
  const lines: string[] = [];
  let line = "";
  for (let [word = "", ...words] = text.split(" "); ; ) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (fits(longer, most)) {
      line = longer;
      if (words.length === 0) break;
      [word = "", ...words] = words;
    } else if (line !== "") {
      lines.push(line);
      line = "";
    } else {
      const start = beginning(word, most);
      lines.push(start);
      word = word.slice(start.length);
    }
  }
  return [...lines, line].join("\n");
}

function fits(text: string, most: number): boolean {
  return text.includes("\u001b") || widthOf(text) <= most;
}

/** The beginning of a text with at most a width. */
function beginning(text: string, most: number): string {
  let kept = "";
  let width = 0;
  for (const one of text) {
    width += widthOf(one);
    if (width > most) break;
    kept += one;
  }
  return kept;
}

function shown(cell: Cell): string {
  if (cell === null || cell === undefined) return "-";
  if (typeof cell === "object") return cell.painted;
  return printable(String(cell));
}
