import { CommandError } from "../exit-codes.ts";
import { SENT_JSON, sendAll } from "../sending.ts";
import { findTarget } from "../target.ts";
import { verb } from "../verb.ts";
import { formOf, SEND_OPTIONS, sendOptionsOf } from "./send-options.ts";

/** The exits of `send` and `publish`. */
export const SEND_EXITS = {
  partly: "some of many messages failed, or it was stopped: `nextLine` says where to go on",
  data: "the message is no JSON, the schema refuses it, or it is too large",
  "no-input": "the file cannot be read",
  "not-found": "the destination is not there, or no subscription takes the event",
  "try-again":
    "the broker did not confirm in time: sending again with the same `--id` is safe for idempotent consumers",
  unavailable: "the broker cannot be reached, or cannot do what is asked (delay, priority)",
  "not-allowed": "it refuses the login, or the right to write",
} as const;

export const send = verb({
  name: "send",
  summary: "Put work on a queue",
  teaches: `Sends a message to a queue and waits until the broker has confirmed it. The message is JSON, checked by the schema if the configuration has one; it is given here, in a file, or on stdin. With --lines a file or a pipe of any length is sent, a message a line. Creates nothing: the queue has to stand.`,
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
