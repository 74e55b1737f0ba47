import type { Delivery } from "../../core/index.ts";
import { storableText } from "../../core/stores.ts";
import type { InboxMessage } from "./inbox-store.ts";

/**
 * What stands for a message in an inbox. Names have no `/`, so no two consumers share one. An id that a store need not
 * carry (other characters than printable ASCII, or too many of them) is hashed.
 */
export function inboxMessage({ destination, subscription, id }: Delivery): InboxMessage {
  return {
    consumer: subscription === undefined ? destination : `${destination}/${subscription}`,
    id: storableText(id),
  };
}
