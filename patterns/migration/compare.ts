import { addressName, describeAddress } from "../../core/address.ts";
import { CAPABILITY_NAMES, type CapabilityName, type Support } from "../../core/capabilities.ts";
import type { Destination } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { addressOf } from "./bridge-ends.ts";
import type { Comparable, Comparison, Difference, DifferenceName } from "./contract.ts";
import type { Plan } from "./plan.ts";

/** Leases are a means, not a feature that an application uses. */
const COMPARED: readonly CapabilityName[] = CAPABILITY_NAMES.filter((name) => name !== "lease");

const LIMITS = ["maxMessageBytes", "maxHeaders", "maxHeaderBytes"] as const;
const RANK: Readonly<Record<Support, number>> = { native: 2, emulated: 1, unsupported: 0 };

/**
 * Compares two brokers: what the new one lacks, does otherwise, or has in addition. The adapters need not be open. Throws
 * `invalid` for a wrong destination.
 */
export function compareBrokers(
  from: Comparable,
  to: Comparable,
  destinations: readonly Destination[] = [],
): Comparison {
  const capabilities = COMPARED.flatMap((name) => capability(name, from, to, destinations));
  const differences = [...capabilities, ...levels(from, to, destinations), ...limits(from, to)];
  const lost = differences.filter(({ kind }) => kind === "lost").map(({ name }) => name);
  return { from: from.name, to: to.name, differences, lost };
}

/** Throws `unsupported` with every lost feature that is not accepted. */
export function refuseLost({ from, to, differences }: Comparison, accepted: readonly string[]): void {
  const open = differences.filter(({ kind, name }) => kind === "lost" && !accepted.includes(name));
  if (open.length === 0) return;
  const shown = open.map(({ name, askedBy, note }) => {
    const asked = askedBy.length === 0 ? "" : `, used by ${askedBy.join(" and ")}`;
    return `${name}${asked} (${note})`;
  });
  throw new MessagingError(
    "unsupported",
    `moving from ${from} to ${to} loses ${shown.join("; ")}. Nothing was changed: accept each by its name, or choose another broker`,
  );
}

function capability(
  name: CapabilityName,
  from: Comparable,
  to: Comparable,
  destinations: readonly Destination[],
): readonly Difference[] {
  const before = from.capabilities[name].support;
  const { support: after, note } = to.capabilities[name];
  const askedBy = destinations.filter((each) => asks(each, name)).map((each) => describeAddress(addressOf(each)));
  // The new broker refuses an option that it does not support, even if the old one ignored it.
  const isLost = after === "unsupported" && (before !== "unsupported" || askedBy.length > 0);
  if (before === after && !isLost) return [];
  const kind = isLost ? "lost" : RANK[after] < RANK[before] ? "emulated" : "gained";
  return [{ name, from: before, to: after, kind, askedBy, note }];
}

function asks(destination: Destination, name: CapabilityName): boolean {
  if (destination.kind === "subscription") {
    const { filter, from } = destination.options;
    if (name === "routingFilter") return filter !== undefined && filter !== "#";
    return name === "rewind" && from !== undefined && from !== "now";
  }
  const { options } = destination;
  if (name === "order") return options.ordered === true;
  if (name === "durable") return options.durable === true;
  if (name === "ttl") return options.ttlMs !== undefined;
  if (name === "fanOut") return destination.kind === "topic";
  return name === "priority" && destination.kind === "queue" && (destination.options.priorities ?? 1) > 1;
}

/** Compares the number of priorities. */
function levels(from: Comparable, to: Comparable, destinations: readonly Destination[]): readonly Difference[] {
  const before = from.capabilities.priority.levels;
  const { levels: after, support } = to.capabilities.priority;
  if (support === "unsupported" || before === after) return [];
  const asking = destinations.filter((each) => each.kind === "queue" && (each.options.priorities ?? 1) > after);
  const askedBy = asking.map((each) => describeAddress(addressOf(each)));
  const note = `${to.name} has ${after}; a higher priority is sent as the highest`;
  return [{ name: "priorityLevels", from: before, to: after, kind: after < before ? "lost" : "gained", askedBy, note }];
}

function limits(from: Comparable, to: Comparable): readonly Difference[] {
  return LIMITS.flatMap((name) => {
    const before = from.capabilities[name];
    const after = to.capabilities[name];
    if (before === after) return [];
    const note = `${to.name} takes ${after}, and ${from.name} ${before}; more is refused with too-large`;
    return [{ name, from: before, to: after, kind: after < before ? "lost" : "gained", askedBy: [], note }];
  });
}

const NAMES: readonly DifferenceName[] = [...COMPARED, ...LIMITS, "priorityLevels"];

/** Throws `invalid` for an unknown name. */
export function checkAccepted(where: string, accept: readonly string[], also: readonly string[] = []): void {
  if (!Array.isArray(accept)) throw new MessagingError("invalid", `${where} { accept } takes a list of names`);
  const known: readonly string[] = [...NAMES, ...also];
  const unknown = accept.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new MessagingError("invalid", `${where} { accept } knows ${known.join(", ")}, not ${String(unknown)}`);
}

const PAGE = 1_000;
/** With more missing ids than this, none are tracked. */
const MOST = 100_000;

/**
 * Tracks the ids that were missing at the first check until they are handled. Under load, newer messages are always in
 * flight: they are not tracked.
 */
export class Missing {
  readonly #plan: Plan;
  #open: ReadonlyMap<string, ReadonlySet<string>> | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** The ids that are missing since the first check, by source. Sources without any are left out. */
  async check(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    const before = this.#open;
    const open = new Map<string, ReadonlySet<string>>();
    let count = 0;
    for (const { address } of this.#plan.works()) {
      const source = addressName(address);
      if (before !== undefined && !before.has(source)) continue;
      const ids = await this.#of(source, before?.get(source));
      count += ids.size;
      if (ids.size > 0) open.set(source, ids);
    }
    if (count <= MOST) this.#open = open;
    return open;
  }

  async #of(source: string, among: ReadonlySet<string> | undefined): Promise<ReadonlySet<string>> {
    const { state, name } = this.#plan;
    const ids = new Set<string>();
    let after: string | undefined;
    while (ids.size <= MOST) {
      const page = await state.list(name, source, "missing", after, PAGE);
      for (const id of page) if (among === undefined || among.has(id)) ids.add(id);
      after = page.at(-1);
      if (page.length < PAGE) break;
    }
    return ids;
  }
}
