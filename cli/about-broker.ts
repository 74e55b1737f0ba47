import type { Adapter } from "../core/adapter.ts";
import type { Address, WorkAddress } from "../core/address.ts";
import { CAPABILITY_NAMES, type Capabilities, type CapabilityName } from "../core/capabilities.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { declarationsOf, problemJson } from "./comparison.ts";
import { describeDestination, placeOf } from "./target.ts";

/** The capabilities that a destination's options need. */
function asksOf(destination: Destination): readonly CapabilityName[] {
  const of = destination.kind === "subscription" ? destination.topic : destination;
  const { ordered, durable, ttlMs } = of.options;
  const asks: CapabilityName[] = [];
  if (of.kind === "topic") asks.push("fanOut");
  if (ordered === true) asks.push("order");
  if (durable === true) asks.push("durable");
  if (ttlMs !== undefined) asks.push("ttl");
  if (destination.kind === "queue" && (destination.options.priorities ?? 1) > 1) asks.push("priority");
  if (destination.kind === "subscription") {
    const { filter = "#", from = "now" } = destination.options;
    if (filter !== "#") asks.push("routingFilter");
    if (from !== "now") asks.push("rewind");
  }
  return asks;
}

/** The physical names of a destination. */
export interface PhysicalNames {
  readonly main: string | null;
  readonly deadLetters: string | null;
  readonly quarantine: string | null;
}

/** Describes a broker for some destinations; the adapter need not be connected. */
export function aboutBroker(
  label: string,
  adapter: Adapter,
  wanted: readonly Destination[],
  required: readonly CapabilityName[],
) {
  const { capabilities } = adapter;
  return {
    broker: label,
    adapter: adapter.name,
    capabilities: Object.fromEntries(
      CAPABILITY_NAMES.map((name) => [name, { support: capabilities[name].support, note: capabilities[name].note }]),
    ),
    limits: limitsOf(capabilities),
    problems: declarationsOf(wanted).problems(adapter, required).map(problemJson),
  };
}

function limitsOf({ maxMessageBytes, maxHeaders, maxHeaderBytes, priority }: Capabilities) {
  return { maxMessageBytes, maxHeaders, maxHeaderBytes, priorities: priority.levels };
}

/** A destination's physical names, and the capabilities it needs. */
export function aboutDestination(adapter: Adapter, destination: Destination) {
  return {
    destination: describeDestination(destination),
    physical: physicalOf(adapter, destination),
    asks: asksOf(destination).map((capability) => ({ capability, support: adapter.capabilities[capability].support })),
  };
}

/** The physical names of a destination; null for names that are not possible, or do not exist. */
export function physicalOf(adapter: Adapter, destination: Destination): PhysicalNames {
  const nameOf = (address: Address): string | null => {
    try {
      return adapter.physicalName(address);
    } catch (error) {
      // The wrong name is reported as a problem.
      if (isMessagingError(error)) return null;
      throw error;
    }
  };
  if (destination.kind === "topic") {
    return { main: nameOf({ kind: "topic", name: destination.name }), deadLetters: null, quarantine: null };
  }
  const of = placeOf(destination) as WorkAddress;
  return {
    main: nameOf(of),
    deadLetters: nameOf({ kind: "dead-letters", of }),
    quarantine: nameOf({ kind: "quarantine", of }),
  };
}
