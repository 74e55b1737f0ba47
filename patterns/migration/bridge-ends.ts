import type { SubscriptionDeclaration } from "../../core/adapter.ts";
import {
  type Address,
  describeAddress,
  type QueueAddress,
  type Source,
  type SubscriptionAddress,
  type TopicAddress,
  type WorkAddress,
} from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";

/** Which messages of a queue or subscription are moved. */
export type BridgeContent = "messages" | "dead-letters";

/** The options of {@link bridge}. */
export interface BridgeOptions {
  /** What is moved: a queue, or a subscription made by `subscription()`. */
  readonly source: Destination;
  /**
   * Where it goes: a queue, a topic or a subscription. Default: what has the name of the source on the other broker; from a
   * subscription that is the subscription itself, so that no other one sees its events.
   */
  readonly target?: Destination;
  /**
   * `messages`, or `dead-letters`, which are dead letters of the target afterwards. Default `messages`.
   */
  readonly content?: BridgeContent;
  /** Whether `run` ends when the source is empty, or goes on until it is stopped. Default `drained`. */
  readonly until?: "drained" | "stopped";
  /** The most messages per second. Default: no limit. `setRate` changes it. */
  readonly rate?: number;
  /** The most messages in hand. Default 1,000. */
  readonly maxMessages?: number;
  /** The most bytes of bodies in hand; a single larger one goes alone. Default 32 MiB. */
  readonly maxBytes?: number;
  /**
   * How long the source has to be seen empty where its broker only estimates how much stands there, in milliseconds.
   * Default 10,000.
   */
  readonly emptyForMs?: number;
  /** Told at most twice a second, and at the end. What it throws is ignored. */
  readonly onProgress?: (status: BridgeStatus) => void;
}

/** Why a message was left where it stood. */
export interface LeftMessage {
  readonly id: string;
  /** `too-large`, `refused`, …; of a message behind another of its key that was left, the error of that one. */
  readonly error: MessagingError;
}

/** A snapshot of a bridge. Counts are since it was made. */
export interface BridgeStatus {
  /** As people read it: `orders`, `order.placed..billing.dlq`. */
  readonly source: string;
  readonly target: string;
  readonly state: "new" | "running" | "paused" | "ended";
  /** Confirmed on the new broker and gone from the old one. */
  readonly moved: number;
  /** Confirmed on the new broker and, since the old one had taken them back meanwhile, moved once more under the same id. */
  readonly repeated: number;
  /** Taken and not yet settled. */
  readonly inHand: number;
  /** Left where they stood: the other broker refuses them. */
  readonly left: number;
  /** Not moved because they do not match the filter of the source; see `ConsumerStatus.filtered`. */
  readonly filtered: number;
  /** Messages that still stand at the source, as far as it was asked; undefined before. */
  readonly remaining: number | undefined;
  /** Messages per second, over the last seconds. */
  readonly rate: number;
  /** Why nothing moves for now; it goes on trying. */
  readonly stalled: MessagingError | undefined;
}

/** What a bridge did. */
export interface BridgeResult {
  /** `drained`: nothing is left, but for what is in `left`. `stopped`: by `stop` or the signal. `failed`: see `error`. */
  readonly end: "drained" | "stopped" | "failed";
  readonly moved: number;
  readonly repeated: number;
  /** How many were left where they stood. */
  readonly left: number;
  /** How many were not moved because they do not match the filter of the source. */
  readonly filtered: number;
  /** The first hundred of them. */
  readonly leftMessages: readonly LeftMessage[];
  readonly durationMs: number;
  /** Why nothing can be moved at all, as in `not-found` or `unauthorized`. */
  readonly error: MessagingError | undefined;
}

/** Moves messages from one broker to another. */
export interface Bridge {
  /**
   * Rejects with what {@link Bridge.run} would reject with before it moves anything: `closed` if one of the broker objects
   * is not started, and `invalid` if source and target are one and the same, or the source is a subscription of the target,
   * as far as the adapters can tell.
   */
  check(): Promise<void>;
  /**
   * Moves. Resolves when it ended, whatever the reason; rejects as {@link Bridge.check} does, and with `not-found` if there
   * is no such source. A second call while it runs shares the first; after it ended it goes on.
   */
  run(options?: { readonly signal?: AbortSignal }): Promise<BridgeResult>;
  /** Takes nothing more, and gives back what was not sent. */
  pause(): void;
  /** Goes on after {@link Bridge.pause}. */
  resume(): void;
  /** Messages per second from now on; undefined for no limit. */
  setRate(rate: number | undefined): void;
  /** Takes nothing more, waits for the confirms of what was sent, and gives back the rest. A second call waits for the first. */
  stop(): Promise<void>;
  status(): BridgeStatus;
}

/** Where a destination's messages stand or go. Throws `invalid` for what is none. */
export function addressOf(destination: Destination): QueueAddress | TopicAddress | SubscriptionAddress {
  switch (destination?.kind) {
    case "queue":
      return { kind: "queue", name: destination.name };
    case "topic":
      return { kind: "topic", name: destination.name };
    case "subscription":
      return { kind: "subscription", topic: destination.topic.name, name: destination.name };
    default:
      throw new MessagingError("invalid", "a destination is made by queue(), topic() or subscription()");
  }
}

/** Whether a destination keeps its keys in order: a subscription, as its topic does. */
export function isOrdered(destination: Destination): boolean {
  const of = destination.kind === "subscription" ? destination.topic : destination;
  return of.options.ordered === true;
}

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
