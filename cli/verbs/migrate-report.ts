import type { ParityReport } from "../../patterns/migration/index.ts";
import { columns } from "../columns.ts";
import { MIGRATE_EXITS, withMigration } from "../migrations.ts";
import type { Paint } from "../terminal.ts";
import { verb } from "../verb.ts";

const MOST_IDS = 10;

export const migrateReport = verb({
  name: "migrate report",
  summary: "Whether every id that went in was handled",
  teaches: `Holds the ids that were published against those that were handled, for each queue and subscription, and looks at what is dead and what still stands on both brokers. While messages are on their way some are missing: look again.`,
  positionals: {},
  options: {
    limit: { type: "number", default: 100, describe: "The most ids that are shown for each difference" },
    "dead-letters": { type: "boolean", default: true, describe: "Look at the dead letters of both brokers" },
  },
  examples: [["migrate report --json", "for the record"]],
  json: {
    name: "the migration's name",
    at: "when, by the state store",
    verdict: "`equal`, `different`, or `waived` if ids are not journaled",
    sources:
      "a list: `source`, `published`, `handled`, `missing`, `dead` and `unexpected` (each `count` and the first `ids`), `remaining` (`from` and `to`; null where it could not be asked)",
  },
  exits: { ...MIGRATE_EXITS, data: "the report shows a difference: something is missing" },
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
