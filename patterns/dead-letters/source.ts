import { addressName, type DeadLettersAddress, type WorkAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { checkName } from "../../core/checks.ts";
import type { Codec } from "../../core/codec.ts";
import type { Queue, Tombstones, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { Originals } from "./originals.ts";

/** A queue or a subscription whose dead letters are worked on. */
export interface Source {
  readonly address: WorkAddress;
  readonly deadLetters: DeadLettersAddress;
  /** As people read it: `orders`, `order.placed..billing`. */
  readonly name: string;
  readonly ordered: boolean;
  readonly schema: Queue<unknown>["schema"];
  readonly codec: Codec;
  readonly tombstones?: Tombstones | undefined;
  /** What those stand for that only refer to messages. */
  readonly originals: Originals;
}

/** Throws `invalid` for what is neither a queue nor a topic with the name of a subscription. */
export function sourceOf(
  internals: BrokerInternals,
  destination: Queue<never, unknown> | Topic<never, unknown>,
  subscription: string | undefined,
): Source {
  const address = addressOf(destination, subscription);
  const deadLetters = { kind: "dead-letters", of: address } as const;
  return {
    address,
    deadLetters,
    originals: new Originals(internals, deadLetters),
    name: addressName(address),
    ordered: destination.options.ordered === true,
    schema: destination.schema,
    codec: destination.options.codec ?? internals.codec,
    tombstones: destination.options.tombstones,
  };
}

function addressOf(
  destination: Queue<never, unknown> | Topic<never, unknown> | null | undefined,
  subscription: string | undefined,
): WorkAddress {
  if (destination?.kind === "queue" && subscription === undefined) return { kind: "queue", name: destination.name };
  if (destination?.kind === "topic" && subscription !== undefined) {
    checkName("subscription", subscription);
    return { kind: "subscription", topic: destination.name, name: subscription };
  }
  throw new MessagingError(
    "invalid",
    "deadLetters(broker, …) takes a queue, or a topic and the name of its subscription: each has dead letters of its own",
  );
}
