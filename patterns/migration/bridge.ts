import { type Broker, MessagingError } from "../../core/index.ts";
import type { Bridge, BridgeOptions } from "./bridge-contract.ts";

/**
 * Moves the messages of one queue or subscription from a broker to another. A message leaves the old broker only after the
 * new one has confirmed it: a crash in between leaves it on both, under the same id, and loses none; a bridge that is made
 * again goes on.
 *
 * Kept are id, key, routing key, headers, content type, body byte for byte (it is never decoded), when it was first
 * published, attempts made so far, and what is left of its delay and time to live; its priority as far as the new broker has
 * priorities. Where the source is ordered its keys stay in order: of a key one message at a time is under way, and what cannot
 * be moved holds what came after it. What the new broker refuses (`too-large`, `rejected`) stays where it was, and is told.
 *
 * Others may consume from the source at the same time, and share it with the bridge; of an ordered source they must not, or
 * its keys come out of order. Both broker objects have to be started, and the target has to be declared. Memory is bounded by
 * `maxMessages` and `maxBytes`. Throws `invalid` for wrong options, or for broker objects not made by `createBroker`.
 */
export function bridge(from: Broker, to: Broker, options: BridgeOptions): Bridge {
  throw new MessagingError("unsupported", `bridge is not built yet: ${typeof from} ${typeof to} ${typeof options}`);
}
