import { unawaited } from "../../core/foreign.ts";
import { type Delivery, MessagingError } from "../../core/index.ts";
import { storableText } from "../../core/stores.ts";

/**
 * The key that a store keeps: `queue:key` or `topic/subscription:key`. Names have neither `:` nor `/`, so no two consumers
 * share a key. What a store need not carry (other characters than printable ASCII, over 256 of them) is hashed.
 */
export function storeKey({ destination, subscription }: Delivery, key: unknown): string {
  unawaited(key);
  if (typeof key !== "string" || key === "") {
    throw new MessagingError("invalid", `idempotent { key } has to return a text for each message of ${destination}`);
  }
  const scope = subscription === undefined ? destination : `${destination}/${subscription}`;
  return `${scope}:${storableText(key)}`;
}
