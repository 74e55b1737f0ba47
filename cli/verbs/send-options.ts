import type { SendOptions } from "../../core/options.ts";
import { type BodyForm, headersOf } from "../sending.ts";
import { duration } from "../target.ts";

/** The options of `send` and `publish`. */
export const SEND_OPTIONS = {
  file: { type: "string", describe: "Read it from a file; - is stdin" },
  lines: { type: "boolean", default: false, describe: "The file has one message per line" },
  "from-line": {
    type: "number",
    default: 1,
    describe: "Skip the lines before",
  },
  key: { type: "string", describe: "The key of the message" },
  id: { type: "string", describe: "The id. Default: a new one" },
  header: { type: "string", array: true, describe: "name=value; may be repeated" },
  delay: { type: "string", describe: "Deliver it later, such as 90s or 1h" },
  ttl: { type: "string", describe: "Dead-letter it if not delivered within, such as 1d" },
  text: { type: "boolean", default: false, describe: "The body is text, not JSON" },
  raw: { type: "boolean", default: false, describe: "Send the bytes as they are, past codec and schema" },
  "content-type": { type: "string", describe: "With --raw: the content type" },
  timeout: { type: "string", describe: "How long to try, such as 30s" },
  "dry-run": { type: "boolean", default: false, describe: "Check the message, connect to nothing" },
} as const;

/** The options of the send itself. */
export function sendOptionsOf(given: {
  readonly key: string | undefined;
  readonly id: string | undefined;
  readonly header: readonly string[] | undefined;
  readonly delay: string | undefined;
  readonly ttl: string | undefined;
  readonly timeout: string | undefined;
}): SendOptions {
  const { key, id, header, delay, ttl, timeout } = given;
  return {
    ...(key === undefined ? {} : { key }),
    ...(id === undefined ? {} : { id }),
    ...(header === undefined ? {} : { headers: headersOf(header) }),
    ...(delay === undefined ? {} : { delayMs: duration("--delay", delay) }),
    ...(ttl === undefined ? {} : { ttlMs: duration("--ttl", ttl) }),
    ...(timeout === undefined ? {} : { timeoutMs: duration("--timeout", timeout) }),
  };
}

/** The form of the message. */
export function formOf(given: {
  readonly text: boolean;
  readonly raw: boolean;
  readonly "content-type": string | undefined;
}): BodyForm {
  return { text: given.text, raw: given.raw, contentType: given["content-type"] };
}
