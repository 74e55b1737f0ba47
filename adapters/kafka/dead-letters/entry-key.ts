import { createHash } from "node:crypto";
import type { OutgoingMessage } from "../../../core/adapter.ts";
import type { Random } from "../../../core/clock.ts";
import { userHeaders } from "../../../core/system-headers.ts";

/*
 * The key of a dead letter: `<message id>.<digest of the content>.<one of its own>`.
 *
 * Equal up to the last dot are copies of one message: what a crash between the copy and the settlement leaves twice.
 * Readers take them for one entry. Two messages that share an id and differ in anything else are two entries.
 *
 * The end is of each record its own, so that a tombstone removes exactly the records that its writer has seen. Under a
 * key of id and content alone, a message that was sent back to its queue and failed there again would come under the key
 * of the entry that is just being removed, and the tombstone behind it would remove it unseen.
 */

const DIGEST_BYTES = 16;
const OWN_BYTES = 8;
/** With the dot before it. */
const OWN_LENGTH = 12;
const DIGEST_AND_OWN = /\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{11}$/;

/** What tells messages apart. */
export type EntryContent = Pick<OutgoingMessage, "id" | "key" | "routingKey" | "headers" | "body" | "contentType">;

/** A fresh key for a message. */
export function entryKey(message: EntryContent, random: Pick<Random, "bytes">): string {
  const own = Buffer.from(random.bytes(OWN_BYTES)).toString("base64url");
  return `${asText(Buffer.from(message.id))}.${digest(message)}.${own}`;
}

function digest({ id, key, routingKey, headers, body, contentType }: EntryContent): string {
  const hash = createHash("sha256");
  // What the engine writes differs from one failure to the next.
  const given = Object.entries(userHeaders(headers)).sort(([one], [other]) => (one < other ? -1 : 1));
  hash.update(JSON.stringify([id, key ?? null, routingKey ?? null, contentType, given]));
  hash.update("\n");
  hash.update(body);
  return hash.digest().subarray(0, DIGEST_BYTES).toString("base64url");
}

/** Whether anybroker made a key, so that it is no message's. */
export function isEntryKey(key: string): boolean {
  return DIGEST_AND_OWN.test(key);
}

/** What the keys of one message's copies have in common; of another sender's record its whole key. */
export function contentOf(key: string): string {
  return isEntryKey(key) ? key.slice(0, -OWN_LENGTH) : key;
}

/** A key as text: a character per byte, so that any key comes back as it was. */
export function asText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

/** The bytes of a key that is text from {@link asText}. */
export function asBytes(key: string): Buffer {
  return Buffer.from(key, "latin1");
}
