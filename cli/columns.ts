import Table from "cli-table3";
import type { Paint } from "./paint.ts";
import { printable } from "./printable.ts";

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

/** A cell: anybody's text, or one that a {@link Paint} made. */
export type Cell = string | number | null | undefined | { readonly painted: string };

/** Rows in columns, with their names above. What is not known is shown as `-`. */
export function columns(paint: Paint, names: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const table = new Table({
    chars: NO_LINES,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 2, compact: true },
    head: names.map((name) => paint.dim(name)),
  });
  for (const row of rows) table.push(row.map(shown));
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

function shown(cell: Cell): string {
  if (cell === null || cell === undefined) return "-";
  if (typeof cell === "object") return cell.painted;
  return printable(String(cell));
}
