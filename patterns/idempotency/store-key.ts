import { createHash } from "node:crypto";
import { type Delivery, MessagingError } from "../../core/index.ts";

/** Short enough beside the longest names of a topic and a subscription. */
const LONGEST_VERBATIM = 256;
const VERBATIM = /^[\x20-\x7e]+$/;
const HASHED = "sha256=";

/**
 * The key that a store keeps: `queue:key` or `topic/subscription:key`. Names have neither `:` nor `/`, so no two consumers
 * share a key. What a store need not carry (other characters than printable ASCII, over 256 of them) is hashed.
 */
export function storeKey({ destination, subscription }: Delivery, key: unknown): string {
  if (typeof key !== "string" || key === "") {
    throw new MessagingError("invalid", `idempotent { key } has to return a text for each message of ${destination}`);
  }
  const scope = subscription === undefined ? destination : `${destination}/${subscription}`;
  const verbatim = key.length <= LONGEST_VERBATIM && VERBATIM.test(key) && !key.startsWith(HASHED);
  return `${scope}:${verbatim ? key : hashed(key)}`;
}

/** By code units: texts that differ only in what UTF-8 cannot carry stay apart. */
function hashed(key: string): string {
  return `${HASHED}${createHash("sha256").update(Buffer.from(key, "utf16le")).digest("hex")}`;
}
