import { columns } from "./columns.ts";
import type { Change, MovePlan } from "./move-plan.ts";
import type { Paint } from "./paint.ts";

/** A plan of a move as people read it: what is refused first. */
export function planText(paint: Paint, from: string, to: string, { capabilities, limits, refused }: MovePlan): string {
  const changed = capabilities.filter(({ change, askedBy }) => change !== "same" || askedBy.length > 0);
  const rows = changed.map(({ capability, from: before, to: after, change, note, askedBy }) => [
    capability,
    { painted: paintSupport(paint, before) },
    { painted: paintSupport(paint, after) },
    { painted: paintChange(paint, change) },
    askedBy.join(" "),
    note,
  ]);
  const limitRows = limits.map(({ limit, from: before, to: after, change }) => [
    limit,
    before,
    after,
    { painted: paintChange(paint, change) },
  ]);
  const verdict =
    refused.length === 0
      ? paint.green("the target takes every destination")
      : [
          paint.red("the target refuses:"),
          ...refused.map(({ code, message }) => `  ${paint.red(code)} ${message}`),
        ].join("\n");
  return [
    `from ${paint.bold(from)}\nto   ${paint.bold(to)}`,
    verdict,
    columns(paint, ["CAPABILITY", "FROM", "TO", "", "ASKED FOR BY", "ON THE TARGET"], rows),
    columns(paint, ["LIMIT", "FROM", "TO", ""], limitRows),
  ].join("\n\n");
}

function paintChange(paint: Paint, change: Change): string {
  if (change === "lost") return paint.red(change);
  if (change === "weaker") return paint.yellow(change);
  return change === "stronger" ? paint.green(change) : paint.dim(change);
}

/** How far a broker supports something, in its colour. */
export function paintSupport(paint: Paint, support: string): string {
  if (support === "native") return paint.green(support);
  return support === "emulated" ? paint.yellow(support) : paint.red(support);
}
