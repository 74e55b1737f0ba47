import type { SendOptions } from "../../core/options.ts";
import { type BodyForm, headersOf } from "../sending.ts";
import { duration } from "../target.ts";

/** The options of `send` and `publish`. */
export const SEND_OPTIONS = {
  file: { type: "string", describe: "A file with the message; - is stdin" },
  lines: { type: "boolean", default: false, describe: "The file holds one message on each line" },
  "from-line": {
    type: "number",
    default: 1,
    describe: "Leave out the lines before, which were sent by an earlier run",
  },
  key: { type: "string", describe: "What order is kept by" },
  id: { type: "string", describe: "The id; else a new one" },
  header: { type: "string", array: true, describe: "name=value; may be given several times" },
  delay: { type: "string", describe: "Deliver it so much later, as in 90s or 1h" },
  ttl: { type: "string", describe: "To the dead letters if it is not delivered within, as in 1d" },
  text: { type: "boolean", default: false, describe: "The message is a text, and no JSON" },
  raw: { type: "boolean", default: false, describe: "The bytes as they are, past codec and schema" },
  "content-type": { type: "string", describe: "With --raw: what the bytes are" },
  timeout: { type: "string", describe: "How long to try, as in 30s" },
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
