import type { Adapter } from "../core/adapter.ts";
import type { Address, WorkAddress } from "../core/address.ts";
import { CAPABILITY_NAMES, type Capabilities, type CapabilityName } from "../core/capabilities.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { declarationsOf, toldProblem } from "./standing.ts";
import { describeDestination } from "./target.ts";

/** What a destination asks of a broker by its options. */
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

/** What a destination is called on a broker. */
export interface PhysicalNames {
  readonly main: string | null;
  readonly deadLetters: string | null;
  readonly quarantine: string | null;
}

/** What a broker is for some destinations, as far as its adapter says so without being connected. */
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
    problems: declarationsOf(wanted).problems(adapter, required).map(toldProblem),
  };
}

function limitsOf({ maxMessageBytes, maxHeaders, maxHeaderBytes, priority }: Capabilities) {
  return { maxMessageBytes, maxHeaders, maxHeaderBytes, priorities: priority.levels };
}

/** What a destination becomes on a broker, and what it asks of it. */
export function aboutDestination(adapter: Adapter, destination: Destination) {
  return {
    destination: describeDestination(destination),
    physical: physicalOf(adapter, destination),
    asks: asksOf(destination).map((capability) => ({ capability, support: adapter.capabilities[capability].support })),
  };
}

/** The names of a destination on a broker; null for those that it cannot have there, or has none of. */
export function physicalOf(adapter: Adapter, destination: Destination): PhysicalNames {
  const nameOf = (address: Address): string | null => {
    try {
      return adapter.physicalName(address);
    } catch (error) {
      // Told as a problem of its own.
      if (isMessagingError(error)) return null;
      throw error;
    }
  };
  if (destination.kind === "topic") {
    return { main: nameOf({ kind: "topic", name: destination.name }), deadLetters: null, quarantine: null };
  }
  const of: WorkAddress =
    destination.kind === "queue"
      ? { kind: "queue", name: destination.name }
      : { kind: "subscription", topic: destination.topic.name, name: destination.name };
  return {
    main: nameOf(of),
    deadLetters: nameOf({ kind: "dead-letters", of }),
    quarantine: nameOf({ kind: "quarantine", of }),
  };
}
