import { createHash } from "node:crypto";

const LENGTH = 12;
const LONGEST = 1_024;

/**
 * What differs between two failures of one kind, in the order in which it is taken out. As error trackers do it (Sentry's
 * parameterization, Honeybadger's fingerprints): what is a value becomes the name of its kind.
 */
const VALUES: readonly (readonly [pattern: RegExp, kind: string])[] = [
  [/"(?:[^"\\]|\\.)*"|`[^`]*`|(?<![\p{L}\p{N}])'[^']*'(?![\p{L}\p{N}])/gu, "<text>"],
  [/\b[a-z][a-z0-9+.-]*:\/\/[^\s,;)\]}>]+/gi, "<url>"],
  [/[\w.+-]+@[\w-]+(?:\.[\w-]+)+/g, "<address>"],
  [/\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b/gi, "<id>"],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?/g, "<time>"],
  [/\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b/g, "<address>"],
  [/(?<![\w:])\[?(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?:\]:\d+|\])?/gi, "<address>"],
  [/\b[\w-]+(?:\.[\w-]+)+:\d+\b|\blocalhost(?::\d+)?\b/gi, "<address>"],
  [/\b0x[0-9a-f]+\b/gi, "<hex>"],
  [/\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b/gi, "<hex>"],
  [/(?:(?<!\w)[+-])?\d+(?:[.,_]\d+)*(?:e[+-]?\d+)?/gi, "<n>"],
];

/** An error's message without what differs from one failure to the next; spaces run together, 1,024 characters at most. */
export function normalisedError(message: string): string {
  let text = message.slice(0, LONGEST);
  for (const [pattern, kind] of VALUES) text = text.replace(pattern, kind);
  return text.replace(/\s+/g, " ").trim();
}

/**
 * Names a kind of failure: the first 12 hexadecimal digits of the SHA-256 of destination, error class and normalised
 * message. Stable over processes, brokers and runs.
 */
export function fingerprint(destination: string, errorClass: string | undefined, error: string | undefined): string {
  const parts = [destination, errorClass ?? "", normalisedError(error ?? "")];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, LENGTH);
}
