import { CommandError } from "../exit-codes.ts";
import { SENT_JSON, sendAll } from "../sending.ts";
import { findTarget } from "../target.ts";
import { verb } from "../verb.ts";
import { formOf, SEND_OPTIONS, sendOptionsOf } from "./send-options.ts";

/** The exits of `send` and `publish`. */
export const SEND_EXITS = {
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
