import type { BrokerInternals } from "../../core/broker-internals.ts";
import {
  type Address,
  type Destination,
  MessagingError,
  type Source,
  type SubscriptionDeclaration,
  type WorkAddress,
} from "../../core/index.ts";
import { addressOf, isOrdered } from "./addresses.ts";
import type { BridgeContent, BridgeOptions } from "./bridge-contract.ts";

/** Where a bridge takes from and puts to. */
export interface BridgeEnds {
  readonly source: Source;
  readonly target: Address;
  /** Whether the keys of the source are kept in order. */
  readonly ordered: boolean;
  /** Whether the target is sent to in order. */
  readonly targetOrdered: boolean;
  /** How a subscription is read, where its broker applies that while reading. */
  readonly subscription: SubscriptionDeclaration | undefined;
  /** How many priorities the target has. */
  readonly priorities: number;
  /** An event that no subscription of the target takes may be let go. */
  readonly discardUnroutable: boolean;
}

/** Throws `invalid` for ends between which nothing can be moved. */
export function endsOf(options: BridgeOptions, to: BrokerInternals): BridgeEnds {
  const { source, target: other = source, content = "messages" } = options;
  const from = addressOf(source);
  if (from.kind === "topic") {
    const what = `nothing stands on topic "${from.name}" itself`;
    throw new MessagingError("invalid", `bridge { source }: ${what}; move from a subscription of it`);
  }
  const of = addressOf(other);
  if (content !== "messages" && of.kind === "topic") {
    throw new MessagingError("invalid", `bridge { target }: ${content} go to a queue or subscription, and to no topic`);
  }
  const { levels, support } = to.adapter.capabilities.priority;
  const declared = other.kind === "queue" ? (other.options.priorities ?? 1) : 1;
  return {
    source: content === "messages" ? from : { kind: content, of: from },
    target: content === "dead-letters" ? { kind: content, of: of as WorkAddress } : of,
    // Dead letters have no order to keep any more.
    ordered: content === "messages" && isOrdered(source),
    targetOrdered: content !== "dead-letters" && isOrdered(other),
    subscription: content === "messages" ? declarationOf(source) : undefined,
    priorities: support === "unsupported" ? 1 : Math.max(Math.min(levels, declared), 1),
    discardUnroutable: other.kind === "topic" && other.options.whenUnroutable === "discard",
  };
}

function declarationOf(source: Destination): SubscriptionDeclaration | undefined {
  if (source.kind !== "subscription") return undefined;
  const { filter, from = "now" } = source.options;
  const { ttlMs } = source.topic.options;
  return {
    address: { kind: "subscription", topic: source.topic.name, name: source.name },
    ordered: isOrdered(source),
    from,
    ...(filter === undefined ? {} : { filter }),
    ...(ttlMs === undefined ? {} : { ttlMs }),
  };
}

const CONTENTS: readonly BridgeContent[] = ["messages", "dead-letters"];

/** Refuses what is no content. */
export function checkContent(content: unknown): void {
  if (content === undefined || CONTENTS.includes(content as BridgeContent)) return;
  throw new MessagingError("invalid", `bridge { content } takes ${CONTENTS.join(", ")}, not ${String(content)}`);
}
