import { type Address, addressName, type TopicAddress, type WorkAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { checkName } from "../../core/checks.ts";
import type { Codec } from "../../core/codec.ts";
import type { Destination, Queue, Tombstones, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Source } from "./source.ts";

/** Where a replay sends to: plain JSON. */
export interface TargetAddress {
  readonly address: WorkAddress | TopicAddress;
  readonly ordered: boolean;
}

/** A target, with what reads and writes its bodies where that is known. */
export interface Target extends TargetAddress {
  readonly name: string;
  readonly schema: Queue<unknown>["schema"];
  readonly codec: Codec;
  readonly tombstones?: Tombstones | undefined;
}

/** The source itself, or another destination. Throws `invalid` for what is none. */
export function targetOf(internals: BrokerInternals, source: Source, to: Destination | undefined): Target {
  if (to === undefined) return source;
  const of: Queue<never, unknown> | Topic<never, unknown> = to?.kind === "subscription" ? to.topic : to;
  if (of?.kind !== "queue" && of?.kind !== "topic") {
    throw new MessagingError("invalid", "{ to } takes a destination made by queue(), topic() or subscription()");
  }
  const address = addressOf(to);
  return {
    address,
    name: addressName(address),
    ordered: of.options.ordered === true,
    schema: of.schema,
    codec: of.options.codec ?? internals.codec,
    tombstones: of.options.tombstones,
  };
}

function addressOf(to: Destination): WorkAddress | TopicAddress {
  if (to.kind === "subscription") return { kind: "subscription", topic: to.topic.name, name: to.name };
  return { kind: to.kind, name: to.name };
}

/** Rejects with `not-found` for a queue or subscription that does not stand on the broker. */
export async function requireTarget({ adapter }: BrokerInternals, { address }: TargetAddress): Promise<void> {
  // Not every broker counts the messages of a topic, where none ever stay; sending to one that is not there is refused.
  if (address.kind !== "topic") await adapter.depth(address);
}

/** Whether it is one, with names as destinations have them. */
export function isTargetAddress(given: unknown): given is TargetAddress {
  const { address, ordered } = (given ?? {}) as Partial<TargetAddress>;
  const { kind, name, topic } = (address ?? {}) as Partial<Record<keyof Address | "name" | "topic", unknown>>;
  if (typeof ordered !== "boolean") return false;
  if (kind === "subscription") return isName("topic", topic) && isName(kind, name);
  return (kind === "queue" || kind === "topic") && isName(kind, name);
}

function isName(what: string, name: unknown): boolean {
  try {
    checkName(what, name);
    return true;
  } catch {
    return false;
  }
}
