import type { SendOptions } from "../../core/options.ts";
import { CommandError } from "../exit-codes.ts";
import { type BodyForm, headersOf, SENT_JSON, sendAll } from "../sending.ts";
import { duration, findTarget } from "../target.ts";
import { verb } from "../verb.ts";

/** The options of `send` and `publish`. */
const SEND_OPTIONS = {
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
function sendOptionsOf(given: {
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
function formOf(given: {
  readonly text: boolean;
  readonly raw: boolean;
  readonly "content-type": string | undefined;
}): BodyForm {
  return { text: given.text, raw: given.raw, contentType: given["content-type"] };
}

/** The exits of `send` and `publish`. */
const SEND_EXITS = {
  partly: "`nextLine` says where to continue",
  data: "",
  "no-input": "",
  "not-found": "also: no subscription takes the event",
  "try-again": "send again with the same `--id`",
  unavailable: "",
  "not-allowed": "",
} as const;

export const send = verb({
  name: "send",
  summary: "Put work on a queue",
  teaches: `Sends a message to a queue and waits for the confirm. The message is JSON, checked by the schema of the configuration; it comes from the command line, a file or stdin. --lines sends a file or pipe of any length, one message per line. The queue has to exist.`,
  positionals: {
    destination: { type: "string", demandOption: true, describe: "orders, queue:orders" },
    message: { type: "string", describe: "The message; or --file" },
  },
  options: {
    ...SEND_OPTIONS,
    priority: { type: "number", describe: "From 0 (lowest) up" },
  },
  examples: [
    [`send orders '{"id":"o-1","total":12}'`, "one message"],
    ["send queue:orders --broker amqp://localhost --file orders.jsonl --lines", "a message for each line"],
    [`send orders '{"id":"o-1"}' --dry-run`, "would it be taken?"],
  ],
  json: SENT_JSON,
  exits: SEND_EXITS,
  async run(given, frame) {
    const target = findTarget(given.destination, frame.configuration.destinations ?? []);
    if (target.destination.kind !== "queue") {
      throw new CommandError("usage", `${target.name} is a topic or subscription: use anybroker publish`);
    }
    const { message, file, lines, priority } = given;
    return sendAll(frame, target, {
      body: message,
      file,
      lines,
      fromLine: given["from-line"],
      form: formOf(given),
      options: { ...sendOptionsOf(given), ...(priority === undefined ? {} : { priority }) },
      dryRun: given["dry-run"],
    });
  },
});

export const publish = verb({
  name: "publish",
  summary: "Publish an event to a topic",
  teaches: `As "send", but every subscription gets a copy. An event without a subscription is refused if the broker can tell, unless the topic has whenUnroutable: "discard".`,
  positionals: {
    destination: { type: "string", demandOption: true, describe: "order.placed, topic:order.placed" },
    message: { type: "string", describe: "The event; or --file" },
  },
  options: {
    ...SEND_OPTIONS,
    "routing-key": { type: "string", describe: "Subscriptions filter by it, such as geo.us.ny" },
  },
  examples: [
    [`publish order.placed '{"orderId":"o-1"}' --key o-1`, "one event"],
    [
      `publish topic:geo '{"city":"NY"}' --routing-key geo.us.ny --broker kafka://localhost:9092`,
      "for those who filter",
    ],
  ],
  json: SENT_JSON,
  exits: SEND_EXITS,
  async run(given, frame) {
    const target = findTarget(given.destination, frame.configuration.destinations ?? []);
    if (target.destination.kind !== "topic") {
      throw new CommandError("usage", `${target.name} is a queue: use anybroker send`);
    }
    if (target.subscription !== undefined) {
      throw new CommandError(
        "usage",
        `an event goes to every subscription of ${target.destination.name}: name only the topic`,
      );
    }
    const { message, file, lines } = given;
    const routingKey = given["routing-key"];
    return sendAll(frame, target, {
      body: message,
      file,
      lines,
      fromLine: given["from-line"],
      form: formOf(given),
      options: { ...sendOptionsOf(given), ...(routingKey === undefined ? {} : { routingKey }) },
      dryRun: given["dry-run"],
    });
  },
});
