import { createHash } from "node:crypto";
import type { Delivery } from "../../core/index.ts";
import { type InboxMessage, LONGEST_INBOX_TEXT } from "./inbox-store.ts";

const VERBATIM = /^[\x20-\x7e]+$/;
const HASHED = "sha256=";

/**
 * What stands for a message in an inbox. Names have no `/`, so no two consumers share one. An id that a store need not
 * carry (other characters than printable ASCII, or too many of them) is hashed, by code units.
 */
export function inboxMessage({ destination, subscription, id }: Delivery): InboxMessage {
  const verbatim = id.length <= LONGEST_INBOX_TEXT && VERBATIM.test(id) && !id.startsWith(HASHED);
  return {
    consumer: subscription === undefined ? destination : `${destination}/${subscription}`,
    id: verbatim ? id : `${HASHED}${createHash("sha256").update(Buffer.from(id, "utf16le")).digest("hex")}`,
  };
}
