import { MessagingError } from "../../../core/errors.ts";
import type { GroupDescription } from "../port.ts";
import { PROTOCOL } from "./protocol.ts";

const CONSUMERS = "consumer";
const ADVICE = "stop them, or let them use a group of another name";

/**
 * Why a group cannot be joined: others are in it that share partitions in another way. Undefined if it can be, as far as is
 * known: while a group is dividing its partitions it does not say how.
 */
export function foreignMembers(group: string, found: GroupDescription): MessagingError | undefined {
  const { members, protocol, protocolType, assignor, clients } = found;
  if (members === 0) return undefined;
  const what = kindOf(protocol, protocolType, assignor);
  if (what === undefined) return undefined;
  const names = clients.length === 0 ? "" : `, of the clients ${clients.map((client) => `"${client}"`).join(", ")}`;
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka has ${members} members ${what}${names}: their partitions are not shared with anybroker; ${ADVICE}`,
  );
}

function kindOf(protocol: GroupDescription["protocol"], protocolType: string, assignor: string): string | undefined {
  if (protocol === "consumer") return "of the new consumer protocol (group.protocol=consumer, KIP-848)";
  if (protocolType !== CONSUMERS) return `of the protocol type "${protocolType}"`;
  return assignor === "" || assignor === PROTOCOL ? undefined : `with the assignor "${assignor}"`;
}

/** Why the coordinator takes nobody of ours in; undefined for an answer that says something else. */
export function foreignGroup(group: string, name: string): MessagingError | undefined {
  if (name !== "INCONSISTENT_GROUP_PROTOCOL") return undefined;
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka takes no members of anybroker (${name}): it has members of another protocol, or is a share or streams group; ${ADVICE}`,
  );
}

/** The group gave us partitions by a protocol that is not ours. */
export function unreadableAssignment(group: string, cause: unknown): MessagingError {
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka assigns partitions in a way that cannot be read: clients of another protocol, such as group.protocol=consumer (KIP-848), are in it, and it was left to them; ${ADVICE}`,
    { cause },
  );
}
