import { createHash } from "node:crypto";

const LONGEST_VERBATIM = 256;
const VERBATIM = /^[\x20-\x7e]+$/;
const HASHED = "sha256=";

/**
 * A text as any store can keep it, told apart exactly from all others: as it is, or its hash if it is over 256 characters
 * or has others than printable ASCII. Ids and keys of other senders may be anything, and one that a store refuses would be
 * refused for ever.
 */
export function storableText(text: string): string {
  if (text.length <= LONGEST_VERBATIM && VERBATIM.test(text) && !text.startsWith(HASHED)) return text;
  // By code units: texts that differ only in what UTF-8 cannot carry stay apart.
  return `${HASHED}${createHash("sha256").update(Buffer.from(text, "utf16le")).digest("hex")}`;
}
