import { CommandError } from "../exit-codes.ts";
import { SENT_JSON, sendAll } from "../sending.ts";
import { findTarget } from "../target.ts";
import { verb } from "../verb.ts";
import { SEND_EXITS } from "./send.ts";
import { formOf, SEND_OPTIONS, sendOptionsOf } from "./send-options.ts";

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
