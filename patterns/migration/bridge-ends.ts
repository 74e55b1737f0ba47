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

/** What a bridge moves: messages or dead letters. */
export type BridgeContent = "messages" | "dead-letters";

/** The options of {@link bridge}. */
export interface BridgeOptions {
  /** The source: a queue, or a subscription made by `subscription()`. */
  readonly source: Destination;
  /**
   * The target: a queue, a topic or a subscription. Default: the source's name on the other broker. A subscription goes to
   * the subscription, not to its topic.
   */
  readonly target?: Destination;
  /** `messages` or `dead-letters`. Dead letters become dead letters of the target. Default `messages`. */
  readonly content?: BridgeContent;
  /** Whether `run` ends when the source is empty, or continues until it is stopped. Default `drained`. */
  readonly until?: "drained" | "stopped";
  /** The most messages per second. Default: no limit. Change it with `setRate`. */
  readonly rate?: number;
  /** The most messages in flight. Default 1,000. */
  readonly maxMessages?: number;
  /** The most bytes of bodies in flight; a larger message goes alone. Default 32 MiB. */
  readonly maxBytes?: number;
  /**
   * How long a source must be empty on a broker that only estimates depths, such as SQS, in milliseconds. Default 10,000.
   */
  readonly emptyForMs?: number;
  /** Called at most twice a second, and at the end. What it throws is ignored. */
  readonly onProgress?: (status: BridgeStatus) => void;
}

/** A message that stays on the old broker, and why. */
export interface LeftMessage {
  readonly id: string;
  /** `too-large`, `refused` and so on. A message behind it with the same key has the same error. */
  readonly error: MessagingError;
}

/** A snapshot of a bridge. Counts are since it was made. */
export interface BridgeStatus {
  /** For messages: `orders`, `order.placed..billing.dlq`. */
  readonly source: string;
  readonly target: string;
  readonly state: "new" | "running" | "paused" | "ended";
  /** Confirmed on the new broker, and removed from the old one. */
  readonly moved: number;
  /** Confirmed on the new broker, but lost on the old one before the ack. They are moved again under the same id. */
  readonly repeated: number;
  /** Delivered and not settled. */
  readonly inHand: number;
  /** Left on the old broker, because the new one refuses them. */
  readonly left: number;
  /** Not moved, because they do not match the subscription's filter; see `ConsumerStatus.filtered`. */
  readonly filtered: number;
  /** Messages at the source when it was last asked; undefined before. */
  readonly remaining: number | undefined;
  /** Messages per second over the last seconds. */
  readonly rate: number;
  /** Why no message moves now. The bridge tries again. */
  readonly stalled: MessagingError | undefined;
}

/** The result of a run. */
export interface BridgeResult {
  /** `drained`: only the messages in `left` remain. `stopped`: by `stop` or the signal. `failed`: see `error`. */
  readonly end: "drained" | "stopped" | "failed";
  readonly moved: number;
  readonly repeated: number;
  /** How many messages stay on the old broker. */
  readonly left: number;
  /** How many were not moved, because they do not match the subscription's filter. */
  readonly filtered: number;
  /** The first hundred that stay. */
  readonly leftMessages: readonly LeftMessage[];
  readonly durationMs: number;
  /** Why nothing can be moved, as in `not-found` or `unauthorized`. */
  readonly error: MessagingError | undefined;
}

/** Moves messages from one broker to another. */
export interface Bridge {
  /**
   * Checks source and target. Rejects with `closed` if a broker object is not started. Rejects with `invalid` if source and
   * target are the same, or the source is a subscription of the target, as far as the adapters can tell.
   */
  check(): Promise<void>;
  /**
   * Moves messages. Resolves when it ended, for any reason. Rejects as {@link Bridge.check} does, and with `not-found` if
   * the source does not exist. Calls during a run share it; a call after its end starts another.
   */
  run(options?: { readonly signal?: AbortSignal }): Promise<BridgeResult>;
  /** Takes no more messages, and requeues those that were not sent. */
  pause(): void;
  /** Continues after {@link Bridge.pause}. */
  resume(): void;
  /** Sets the messages per second; undefined for no limit. */
  setRate(rate: number | undefined): void;
  /** Takes no more messages, waits for confirms, and requeues the rest. A second call waits for the first. */
  stop(): Promise<void>;
  status(): BridgeStatus;
}

/** The address of a destination. Throws `invalid` for anything else. */
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

/** Whether a destination is ordered. A subscription is ordered if its topic is. */
export function isOrdered(destination: Destination): boolean {
  const of = destination.kind === "subscription" ? destination.topic : destination;
  return of.options.ordered === true;
}

/** The checked ends of a bridge. */
export interface BridgeEnds {
  readonly source: Source;
  readonly target: Address;
  /** Whether the source is ordered. */
  readonly ordered: boolean;
  /** Whether the target is ordered. */
  readonly targetOrdered: boolean;
  /** The subscription's options, for brokers that apply them while reading. */
  readonly subscription: SubscriptionDeclaration | undefined;
  /** The number of priorities of the target. */
  readonly priorities: number;
  /** Whether the target discards events that match no subscription. */
  readonly discardUnroutable: boolean;
}

/** Throws `invalid` if nothing can be moved between these ends. */
export function endsOf(options: BridgeOptions, to: BrokerInternals): BridgeEnds {
  const { source, target: other = source, content = "messages" } = options;
  const from = addressOf(source);
  if (from.kind === "topic") {
    const what = `topic "${from.name}" stores no messages itself`;
    throw new MessagingError("invalid", `bridge { source }: ${what}; use a subscription of it`);
  }
  const of = addressOf(other);
  if (content !== "messages" && of.kind === "topic") {
    throw new MessagingError("invalid", `bridge { target }: ${content} go to a queue or subscription, not to a topic`);
  }
  const { levels, support } = to.adapter.capabilities.priority;
  const declared = other.kind === "queue" ? (other.options.priorities ?? 1) : 1;
  return {
    source: content === "messages" ? from : { kind: content, of: from },
    target: content === "dead-letters" ? { kind: content, of: of as WorkAddress } : of,
    // Dead letters are not ordered.
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

/** Throws `invalid` for anything else. */
export function checkContent(content: unknown): void {
  if (content === undefined || CONTENTS.includes(content as BridgeContent)) return;
  throw new MessagingError("invalid", `bridge { content } takes ${CONTENTS.join(", ")}, not ${String(content)}`);
}

/**
 * Rejects with `invalid` if the bridge leads back to its source: messages would move for ever. Whether two broker objects
 * use the same server is asked of their adapters.
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
    `bridge would move ${describeAddress(source)} to itself for ever: the source ${how} the target ${describeAddress(target)}, on the same broker; use another broker, or another target`,
  );
}

/** Errors are ignored here: the run meets them too. */
async function identitiesOf({ adapter }: BrokerInternals, of: Address): Promise<readonly unknown[]> {
  try {
    return (await adapter.identities?.(of)) ?? [];
  } catch (error) {
    if (isMessagingError(error)) return [];
    throw error;
  }
}
