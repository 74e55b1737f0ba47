import type { BrokerInternals } from "../../core/broker-internals.ts";
import { type Address, describeAddress, isMessagingError, MessagingError } from "../../core/index.ts";
import type { BridgeEnds } from "./bridge-ends.ts";

/**
 * Rejects with `invalid` where a bridge leads to its own source: what it moved would come again, for ever. Two broker
 * objects are one server as far as their adapters can tell.
 */
export async function refuseItself(from: BrokerInternals, to: BrokerInternals, ends: BridgeEnds): Promise<void> {
  const { source, target } = ends;
  const returns = target.kind === "topic" && source.kind === "subscription" && source.topic === target.name;
  if (!returns && from.adapter.physicalName(source) !== to.adapter.physicalName(target)) return;
  if (from.adapter !== to.adapter) {
    const place: Address = returns && source.kind === "subscription" ? { kind: "topic", name: source.topic } : source;
    const [here, there] = await Promise.all([identitiesOf(from, place), identitiesOf(to, target)]);
    if (!here.some((identity) => there.includes(identity))) return;
  }
  const how = returns ? "is a subscription of" : "is";
  throw new MessagingError(
    "invalid",
    `bridge would move ${describeAddress(source)} to itself for ever: its source ${how} the target ${describeAddress(target)}, on the same broker; name another broker, or another target`,
  );
}

/** What cannot be asked is told by the run itself. */
async function identitiesOf({ adapter }: BrokerInternals, of: Address): Promise<readonly unknown[]> {
  try {
    return (await adapter.identities?.(of)) ?? [];
  } catch (error) {
    if (isMessagingError(error)) return [];
    throw error;
  }
}
