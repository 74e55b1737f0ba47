import { type Address, addressName, type SubscriptionDeclaration, type WorkAddress } from "../../core/index.ts";
import type { JsonObject } from "./document.ts";

/** A queue, topic or subscription that a document describes. */
export interface DescribedDestination {
  readonly address: WorkAddress | (Address & { readonly kind: "topic" });
  readonly ordered: boolean;
  readonly ttlMs: number | undefined;
  /** Of a subscription. */
  readonly filter: string | undefined;
  /** Of a topic: those that the document knows. */
  readonly subscriptions: readonly SubscriptionDeclaration[];
}

/** A channel's address on the broker, and the rest of the channel that follows from the broker. */
export interface BrokerChannel {
  readonly address: string;
  readonly parameters?: JsonObject;
  readonly bindings?: JsonObject;
}

/** What travels beside the body of every message on a broker. */
export interface BrokerMessages {
  /** The headers that the broker's adapter adds, by name, each as a schema. */
  readonly headers: Readonly<Record<string, JsonObject>>;
  /** Those of them that no message is without. Default: none. */
  readonly required?: readonly string[];
  /** Whether the engine's own headers are packed into one of these, instead of standing beside them. Default false. */
  readonly packed?: boolean;
  /** Where a message's id is, as an AsyncAPI runtime expression, if it is where one can point to. */
  readonly idLocation?: string;
  readonly bindings?: JsonObject;
}

/**
 * What a document says in the terms of one broker. Made by `rabbitmqBindings`, `kafkaBindings` and `sqsBindings`; for a
 * broker of your own, write one.
 */
export interface BrokerBindings {
  /** As `Adapter.physicalName`. */
  physicalName(address: Address): string;
  /** Whether a subscription is read from a place of its own; otherwise from its topic. */
  readonly subscriptionsApart: boolean;
  readonly messages: BrokerMessages;
  channel(of: DescribedDestination): BrokerChannel;
  /** The bindings of an operation, if it has any. */
  operation(action: "send" | "receive", of: DescribedDestination): JsonObject | undefined;
}

/** How an adapter maps addresses to names. */
export type PhysicalName = (address: Address) => string;

/** A physical name without what says whether it is a queue, an exchange or a topic. */
export function bareName(physicalName: string): string {
  return physicalName.slice(physicalName.indexOf(" ") + 1);
}

/** For a broker that nothing is known of: names are anybroker's own. */
export function plainBindings(): BrokerBindings {
  return {
    physicalName: (address) => `${address.kind === "topic" ? "topic" : "queue"} ${addressName(address)}`,
    subscriptionsApart: false,
    messages: { headers: {} },
    channel: ({ address }) => ({ address: addressName(address) }),
    operation: () => undefined,
  };
}
