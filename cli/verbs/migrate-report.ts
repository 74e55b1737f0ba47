import type { ParityReport } from "../../patterns/migration/index.ts";
import { columns } from "../columns.ts";
import { MIGRATE_EXITS, withMigration } from "../migrations.ts";
import type { Paint } from "../terminal.ts";
import { verb } from "../verb.ts";

const MOST_IDS = 10;

export const migrateReport = verb({
  name: "migrate report",
  summary: "Compare published and handled ids",
  teaches: `Compares published with handled ids, and counts what is left on both brokers. Messages on their way count as missing: look again.`,
  positionals: {},
  options: {
    limit: { type: "number", default: 100, describe: "The most ids to show per difference" },
    "dead-letters": { type: "boolean", default: true, describe: "Look at the dead letters of both brokers" },
  },
  examples: [["migrate report --json", "for the record"]],
  json: {
    name: "",
    at: "",
    verdict: "`equal`, `different`, or `waived` without a journal",
    sources:
      "`source`, `published`, `handled`, `missing`, `dead`, `unexpected` (each `count` and `ids`), `remaining` (`from`, `to`)",
  },
  exits: { ...MIGRATE_EXITS, data: "ids are missing" },
  run: ({ limit, "dead-letters": deadLetters }, frame) =>
    withMigration(frame, async (control) => {
      const report = await control.report({ limit, deadLetters });
      const exit = report.verdict === "different" ? "data" : "done";
      const sources = report.sources.map(({ remaining, ...source }) => ({
        ...source,
        remaining: { from: remaining.from ?? null, to: remaining.to ?? null },
      }));
      const { name, at, verdict } = report;
      return { json: { name, at, verdict, sources }, text: reportText(frame.terminal.paint, report), exit };
    }),
});

function reportText(paint: Paint, { name, at, verdict, sources }: ParityReport): string {
  const rows = sources.map(({ source, published, handled, missing, dead, unexpected, remaining }) => [
    source,
    published,
    handled,
    { painted: missing.count > 0 ? paint.red(String(missing.count)) : "0" },
    dead.count,
    unexpected.count,
    remaining.from,
    remaining.to,
  ]);
  const names = [
    { name: "SOURCE", when: "whole" } as const,
    "PUBLISHED",
    "HANDLED",
    "MISSING",
    "DEAD",
    "UNEXPECTED",
    "LEFT ON OLD",
    "LEFT ON NEW",
  ];
  const missing = sources.flatMap(({ source, missing: { ids } }) =>
    ids.slice(0, MOST_IDS).map((id) => `${paint.red("missing")} ${paint.bold(source)} ${paint.dim(id)}`),
  );
  const paintVerdict = verdict === "equal" ? paint.green : verdict === "different" ? paint.red : paint.yellow;
  return [`${paint.bold(name)} at ${at}: ${paintVerdict(verdict)}`, columns(paint, names, rows), ...missing].join("\n");
}
