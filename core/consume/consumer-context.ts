import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Adapter, SubscriptionDeclaration } from "../adapter.ts";
import type { WorkAddress } from "../address.ts";
import type { Clock, Random } from "../clock.ts";
import type { Codec } from "../codec.ts";
import type { Handler } from "../delivery.ts";
import type { Tombstones } from "../destination.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import type { BrokerEvent } from "../events.ts";
import type { Route } from "../publish/publish-queue.ts";
import type { PublisherEngine } from "../publish/publisher-engine.ts";
import type { Retry } from "../retry-policy.ts";

/** The fixed settings and services of one consumer. */
export interface ConsumerContext {
  readonly adapter: Adapter;
  readonly publishing: PublisherEngine;
  readonly clock: Clock;
  readonly random: Random;
  readonly emit: (event: BrokerEvent) => void;
  readonly source: WorkAddress;
  /** For people: `orders`, `order.placed..billing`. */
  readonly sourceName: string;
  readonly destination: string;
  readonly subscription: SubscriptionDeclaration | undefined;
  readonly ordered: boolean;
  readonly codec: Codec;
  readonly schema: StandardSchemaV1 | undefined;
  readonly tombstones: Tombstones | undefined;
  /** The handler inside all its middleware. */
  readonly handler: Handler<unknown>;
  readonly retry: Retry;
  readonly timeoutMs: number;
  readonly concurrency: number;
  readonly prefetchMessages: number;
  readonly prefetchBytes: number;
  readonly maxParked: number;
  /** The unique name of this consumer in the quarantine log. */
  readonly consumerId: string;
  /** How long the writer of a start note may be silent before it counts as crashed. */
  readonly silenceMs: number;
  /** Shared by all consumers of the broker. */
  readonly exclusiveTurn: ExclusiveTurn;
  /** The longest delay in one hop; 0 where the adapter has no delay. */
  readonly maxDelayMs: number;
  readonly retries: Route;
  readonly deadLetters: Route;
}

/** Counts since the consumer was made. */
export interface Counts {
  started: number;
  succeeded: number;
  failed: number;
  retried: number;
  postponed: number;
  deadLettered: number;
  filtered: number;
  requeued: number;
  fenced: number;
  abandoned: number;
}

export function noCounts(): Counts {
  const processed = { started: 0, succeeded: 0, failed: 0, retried: 0, postponed: 0, deadLettered: 0 };
  return { ...processed, filtered: 0, requeued: 0, fenced: 0, abandoned: 0 };
}

/** Whether a consumer can take messages, and why not. Emits each change. Parked messages stall it, too. */
export class ConsumerHealth {
  readonly #context: Pick<ConsumerContext, "sourceName" | "emit">;
  #stalled: MessagingError | undefined;
  #parked: MessagingError | undefined;

  constructor(context: Pick<ConsumerContext, "sourceName" | "emit">) {
    this.#context = context;
  }

  /** Why it cannot take messages now, or else why some are parked; undefined while neither is so. */
  get error(): MessagingError | undefined {
    return this.#stalled ?? this.#parked;
  }

  stalled(cause: unknown): void {
    const { sourceName, emit } = this.#context;
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unreachable", `${sourceName} cannot be consumed for now; it is tried again`, { cause });
    this.#stalled = error;
    emit({ type: "stalled", source: sourceName, error });
  }

  flowing(): void {
    if (this.#stalled === undefined) return;
    this.#stalled = undefined;
    this.#emitFlowing();
  }

  /** Sets why the last parked message is parked; undefined when none is parked. */
  parked(error: MessagingError | undefined): void {
    const before = this.#parked;
    this.#parked = error;
    const { sourceName, emit } = this.#context;
    if (before === undefined && error !== undefined) emit({ type: "stalled", source: sourceName, error });
    else if (before !== undefined && error === undefined) this.#emitFlowing();
  }

  #emitFlowing(): void {
    if (this.error === undefined) this.#context.emit({ type: "flowing", source: this.#context.sourceName });
  }
}

/**
 * Lets one consumer of a broker at a time run a quarantined message alone. A process crashes as a whole, so messages that
 * run side by side in two consumers would share the blame.
 */
export class ExclusiveTurn {
  readonly #members = new Map<object, () => void>();
  #holder: object | undefined;

  /** `changed` is called when another member takes or leaves the turn, until `quit`. */
  join(member: object, changed: () => void): void {
    this.#members.set(member, changed);
  }

  quit(member: object): void {
    this.#members.delete(member);
    this.leave(member);
  }

  isFree(member: object): boolean {
    return this.#holder === undefined || this.#holder === member;
  }

  take(member: object): void {
    if (this.#holder === member) return;
    this.#holder = member;
    this.#notify(member);
  }

  /** Does nothing for a member without the turn. */
  leave(member: object): void {
    if (this.#holder !== member) return;
    this.#holder = undefined;
    this.#notify(member);
  }

  #notify(member: object): void {
    for (const [other, changed] of [...this.#members]) if (other !== member) changed();
  }
}
