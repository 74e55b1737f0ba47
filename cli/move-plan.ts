import type { Adapter } from "../core/adapter.ts";
import { CAPABILITY_NAMES, type Capabilities, type CapabilityName, type Support } from "../core/capabilities.ts";
import type { Destination } from "../core/destination.ts";
import { asksOf } from "./asks.ts";
import { declarationsOf, type ToldProblem, toldProblem } from "./standing.ts";
import { describeDestination } from "./target.ts";

/** What becomes of a capability on the way from one broker to another. */
export type Change = "same" | "stronger" | "weaker" | "lost";

/** One capability on both brokers. */
export interface CapabilityChange {
  readonly capability: CapabilityName;
  readonly from: Support;
  readonly to: Support;
  readonly change: Change;
  /** How the target does it, or what to do instead. */
  readonly note: string;
  /** The destinations that ask for it. */
  readonly askedBy: readonly string[];
}

/** One limit on both brokers. */
export interface LimitChange {
  readonly limit: string;
  readonly from: number;
  readonly to: number;
  readonly change: Change;
}

/** What a move from one broker to another means for destinations. Made from what the adapters say: nothing is connected. */
export interface MovePlan {
  readonly capabilities: readonly CapabilityChange[];
  readonly limits: readonly LimitChange[];
  /** What the target refuses at start. */
  readonly refused: readonly ToldProblem[];
}

const STRENGTH: Readonly<Record<Support, number>> = { unsupported: 0, emulated: 1, native: 2 };

/** Compares two brokers for destinations, and what the application requires. */
export function movePlan(
  from: Adapter,
  to: Adapter,
  destinations: readonly Destination[],
  required: readonly CapabilityName[],
): MovePlan {
  const asked = destinations.map((destination) => ({
    name: describeDestination(destination),
    asks: asksOf(destination),
  }));
  const capabilities = CAPABILITY_NAMES.map((capability): CapabilityChange => {
    const [before, after] = [from.capabilities[capability], to.capabilities[capability]];
    const askedBy = asked.filter(({ asks }) => asks.includes(capability)).map(({ name }) => name);
    const byRequire = required.includes(capability) ? ["require"] : [];
    const change = changeOf(before.support, after.support);
    return {
      capability,
      from: before.support,
      to: after.support,
      change,
      note: after.note,
      askedBy: [...byRequire, ...askedBy],
    };
  });
  const limits = limitsOf(from.capabilities).map(([limit, before], index): LimitChange => {
    const after = limitsOf(to.capabilities)[index]?.[1] ?? 0;
    return {
      limit,
      from: before,
      to: after,
      change: after === before ? "same" : after > before ? "stronger" : "weaker",
    };
  });
  return { capabilities, limits, refused: declarationsOf(destinations).problems(to, required).map(toldProblem) };
}

function changeOf(from: Support, to: Support): Change {
  if (from === to) return "same";
  if (to === "unsupported") return "lost";
  return STRENGTH[to] > STRENGTH[from] ? "stronger" : "weaker";
}

/** The limits of a broker by name. */
export function limitsOf({ maxMessageBytes, maxHeaders, maxHeaderBytes, priority }: Capabilities): [string, number][] {
  return [
    ["maxMessageBytes", maxMessageBytes],
    ["maxHeaders", maxHeaders],
    ["maxHeaderBytes", maxHeaderBytes],
    ["priorities", priority.levels],
  ];
}
