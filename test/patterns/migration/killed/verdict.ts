import type { ParityReport } from "../../../../patterns/migration/index.ts";
import type { Catalog } from "../catalog.ts";
import type { Effect, Sale } from "./books.ts";

/** What is known when everything is over. */
export interface Evidence {
  readonly sales: readonly Sale[];
  readonly effects: readonly Effect[];
  /** The processes that were killed. */
  readonly killed: ReadonlySet<string>;
  /** The last sale that was begun before ids were journaled. */
  readonly unjournaled: number;
  readonly report: ParityReport;
}

type Source = Catalog["sources"][keyof Catalog["sources"]];

/** From where each source has its messages, and whether it keeps their order. */
export function feeds({ orders, emails, placed, sources }: Catalog) {
  return [
    { source: sources.orders, destination: orders.name, ordered: true },
    { source: sources.emails, destination: emails.name, ordered: false },
    { source: sources.billing, destination: placed.name, ordered: true },
    { source: sources.shipping, destination: placed.name, ordered: true },
  ] satisfies readonly { source: Source; destination: string; ordered: boolean }[];
}

/** Everything that is wrong, one line each. */
export function offences(catalog: Catalog, evidence: Evidence): readonly string[] {
  return [
    ...stillOpen(catalog, evidence),
    ...feeds(catalog).flatMap(({ source, destination, ordered }) => {
      const sales = evidence.sales.filter((sale) => sale.destination === destination);
      const effects = evidence.effects.filter((effect) => effect.source === source);
      return [
        ...lost(source, sales, effects),
        ...invented(source, sales, effects),
        ...repeated(source, effects, evidence.killed),
        ...(ordered ? disordered(source, effects) : []),
        ...differing(source, sales, effects, evidence),
      ];
    }),
  ];
}

/** Sales that nobody finished: only those of the killed, and only where no other takes them up. */
function stillOpen({ emails }: Catalog, { sales, killed }: Evidence): readonly string[] {
  return sales
    .filter(({ accepted, destination, worker }) => !accepted && !(destination === emails.name && killed.has(worker)))
    .map(({ destination, id, worker }) => `open: ${destination} ${id}, of ${worker}`);
}

/** The accepted messages that were never handled. */
export function lost(source: string, sales: readonly Sale[], effects: readonly Effect[]): readonly string[] {
  const handled = new Set(effects.map(({ id }) => id));
  return sales
    .filter(({ accepted, id }) => accepted && !handled.has(id))
    .map(({ id, worker }) => `lost: ${source} ${id}, accepted by ${worker}`);
}

function invented(source: string, sales: readonly Sale[], effects: readonly Effect[]): readonly string[] {
  const begun = new Set(sales.map(({ id }) => id));
  return effects.filter(({ id }) => !begun.has(id)).map(({ id }) => `invented: ${source} ${id}`);
}

/** An effect may be followed by another of its id only if its process was killed before it had noted it. */
function repeated(source: string, effects: readonly Effect[], killed: ReadonlySet<string>): readonly string[] {
  const last = new Map<string, Effect>();
  const found: string[] = [];
  for (const effect of effects) {
    const before = last.get(effect.id);
    last.set(effect.id, effect);
    if (before === undefined || (!before.completed && killed.has(before.worker))) continue;
    found.push(`repeated: ${source} ${effect.id}, by ${before.worker} and by ${effect.worker}`);
  }
  return found;
}

/** First handlings that are not behind those of all the customer's earlier messages. */
function disordered(source: string, effects: readonly Effect[]): readonly string[] {
  const next = new Map<string, number>();
  const seen = new Set<string>();
  const found: string[] = [];
  for (const { id, customer, n, worker } of effects) {
    if (seen.has(id)) continue;
    seen.add(id);
    const wanted = next.get(customer) ?? 0;
    if (n !== wanted) found.push(`order: ${source} ${id} when ${customer}-${wanted} was next, by ${worker}`);
    next.set(customer, Math.max(wanted, n + 1));
  }
  return found;
}

/** Where the report and the books do not agree. */
function differing(
  source: string,
  sales: readonly Sale[],
  effects: readonly Effect[],
  { unjournaled, report, killed }: Evidence,
): readonly string[] {
  const parity = report.sources.find((one) => one.source === source);
  if (parity === undefined) return [`parity: ${source} is not in the report`];
  const journaled = new Set(sales.filter(({ seq }) => seq > unjournaled).map(({ id }) => id));
  const noted = sales.filter(({ accepted, id, worker }) => accepted && journaled.has(id) && !killed.has(worker));
  const handled = new Set(effects.map(({ id }) => id));
  const excused = new Set(
    sales
      // The note of a publishing that the store did not take in time ends with its instance, as the guide says.
      .filter(({ seq, worker }) => seq <= unjournaled || killed.has(worker))
      .map(({ id }) => id),
  );
  const wrong: string[] = [];
  for (const kind of ["missing", "dead"] as const) {
    if (parity[kind].count > 0) wrong.push(`parity: ${source} ${kind} ${parity[kind].ids.join(" ")}`);
  }
  for (const id of parity.unexpected.ids) if (!excused.has(id)) wrong.push(`parity: ${source} unexpected ${id}`);
  const between = (what: string, least: number, count: number, most: number): void => {
    if (count < least || count > most) wrong.push(`ledger: ${source} ${what} ${count}, not from ${least} to ${most}`);
  };
  between("unexpected ids shown", parity.unexpected.count, parity.unexpected.ids.length, parity.unexpected.count);
  between("published", noted.length, parity.published, sales.length);
  between("handled", [...handled].filter((id) => journaled.has(id)).length, parity.handled, handled.size);
  const { from = 0, to = 0 } = parity.remaining;
  between("remaining", 0, from + to, 0);
  return wrong;
}
