import type { CapabilityName } from "../core/capabilities.ts";
import type { Destination } from "../core/destination.ts";

/** What a destination asks of a broker by its options. */
export function asksOf(destination: Destination): readonly CapabilityName[] {
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
