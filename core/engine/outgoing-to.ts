import type { Adapter } from "../adapter.ts";
import { describeAddress } from "../address.ts";
import type { CapabilityName } from "../capabilities.ts";
import type { Clock } from "../clock.ts";
import type { Codec } from "../codec.ts";
import type { Queue, Topic } from "../destination.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import type { Outgoing } from "./outgoing.ts";
import { refusal } from "./refusal.ts";

type Destination = Queue<never, unknown> | Topic<never, unknown>;

/**
 * How messages for a destination are made for an adapter. Throws `invalid` for what is no destination of the kind, and
 * `unsupported` for a destination that asks for what the adapter cannot give.
 */
export function outgoingTo(
  destination: Destination,
  kind: Destination["kind"],
  adapter: Adapter,
  json: Codec,
  clock: Clock,
  makeId: () => string,
): Outgoing {
  if (destination?.kind !== kind) {
    const use =
      kind === "queue" ? "send takes a queue; use publish for a topic" : "publish takes a topic; use send for a queue";
    throw new MessagingError("invalid", `${use}, made by queue() or topic()`);
  }
  const { name, options } = destination;
  const where = describeAddress({ kind, name });
  const refuse = (capability: CapabilityName): void => {
    const refused = refusal(where, adapter, capability);
    if (refused !== undefined) throw refused;
  };
  if (options.ordered) refuse("order");
  if (options.durable) refuse("durable");
  if (options.ttlMs !== undefined) refuse("ttl");
  if (kind === "topic") refuse("fanOut");
  return {
    destination,
    where,
    codec: options.codec ?? json,
    capabilities: adapter.capabilities,
    adapterName: adapter.name,
    clock,
    makeId,
  };
}

/** What a schema, a key function or a codec threw, as an error of ours. */
export function asInvalid(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  const what = "a message could not be made: its schema, key or routing key function threw";
  return new MessagingError("invalid", `${what}. Nothing was sent; see the cause`, { cause: error });
}
