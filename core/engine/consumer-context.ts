import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Adapter, SubscriptionDeclaration } from "../adapter.ts";
import type { WorkAddress } from "../address.ts";
import type { Clock, Random } from "../clock.ts";
import type { Codec } from "../codec.ts";
import type { Handler } from "../delivery.ts";
import type { Tombstones } from "../destination.ts";
import type { BrokerEvent } from "../events.ts";
import type { PublisherEngine, Route } from "./publishing.ts";
import type { Retry } from "./retry-policy.ts";
import type { ExclusiveTurn } from "./exclusiveTurn.ts";

/** Everything a consumer works with that does not change while it works. */
export interface ConsumerContext {
  readonly adapter: Adapter;
  readonly publishing: PublisherEngine;
  readonly clock: Clock;
  readonly random: Random;
  readonly emit: (event: BrokerEvent) => void;
  readonly source: WorkAddress;
  /** As people read it: `orders`, `order.placed..billing`. */
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
  /** Names this consumer in the quarantine log, as no other is named. */
  readonly consumerId: string;
  /** How long the writer of a start note may be silent before it is taken for crashed. */
  readonly silenceMs: number;
  /** All consumers of the broker share it. */
  readonly exclusiveTurn: ExclusiveTurn;
  /** The longest delay in one hop; 0 where the adapter has no delay. */
  readonly maxDelayMs: number;
  readonly retries: Route;
  readonly deadLetters: Route;
}
