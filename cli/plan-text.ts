import type { Comparison, Difference } from "../patterns/migration/index.ts";
import { columns } from "./columns.ts";
import type { Paint } from "./paint.ts";
import type { ToldProblem } from "./standing.ts";

/** What a move between two brokers means, as people read it: what is refused first. */
export function planText(
  paint: Paint,
  from: string,
  to: string,
  { differences }: Comparison,
  refused: readonly ToldProblem[],
): string {
  const rows = differences.map(({ name, from: before, to: after, kind, askedBy, note }) => [
    name,
    painted(paint, before),
    painted(paint, after),
    { painted: paintKind(paint, kind) },
    askedBy.join(", "),
    note,
  ]);
  const verdict =
    refused.length === 0
      ? paint.green("the target takes every destination")
      : [
          paint.red("the target refuses:"),
          ...refused.map(({ code, message }) => `  ${paint.red(code)} ${message}`),
        ].join("\n");
  const table =
    rows.length === 0
      ? "the two are alike in everything"
      : columns(paint, ["", "FROM", "TO", "", "ASKED FOR BY", "ON THE TARGET"], rows);
  return [`from ${paint.bold(from)}\nto   ${paint.bold(to)}`, verdict, table].join("\n\n");
}

function painted(paint: Paint, value: Difference["from"]): { readonly painted: string } {
  return { painted: typeof value === "number" ? String(value) : paintSupport(paint, value) };
}

function paintKind(paint: Paint, kind: Difference["kind"]): string {
  if (kind === "lost") return paint.red(kind);
  return kind === "emulated" ? paint.yellow(kind) : paint.green(kind);
}

/** How far a broker supports something, in its colour. */
export function paintSupport(paint: Paint, support: string): string {
  if (support === "native") return paint.green(support);
  return support === "emulated" ? paint.yellow(support) : paint.red(support);
}
