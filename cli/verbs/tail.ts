import type { IncomingMessage } from "../../core/adapter.ts";
import { checkFilter } from "../../core/checks.ts";
import { routingMatches } from "../../core/routing.ts";
import { userHeaders } from "../../core/system-headers.ts";
import { entryBody } from "../../patterns/dead-letters/entry.ts";
import { bodyText } from "../dead-letters-of.ts";
import { CommandError, isLibraryError } from "../exit-codes.ts";
import type { Frame } from "../frame.ts";
import { findTarget } from "../target.ts";
import { printable } from "../terminal.ts";
import { verb } from "../verb.ts";
import { watch } from "../watching.ts";

export const tail = verb({
  name: "tail",
  summary: "Watch events as they are published, without taking them from anybody",
  teaches: `Shows what is published to a topic from now on, until Ctrl-C or --limit. It takes nothing that others should get: on RabbitMQ it has an exclusive queue that is gone with its connection, on Kafka it reads the log beside everybody, without a group; on SQS it makes a queue of its own, anybroker-tail-…, and removes it at the end, for which it needs the rights (killed without a word it leaves it behind, with at most five minutes of events on it). What comes while the connection is away is not shown. On RabbitMQ, an event that no other subscription takes counts as taken while it watches, and its publisher is not told "unroutable".

On Kafka and in process it can watch a queue, too. On RabbitMQ and SQS a queue shows its messages only to those who take them, and is refused.`,
  positionals: {
    destination: {
      type: "string",
      demandOption: true,
      describe: "order.placed, topic:order.placed; on Kafka, orders",
    },
  },
  options: {
    filter: { type: "string", describe: "Only routing keys like this: geo.us.*, geo.#" },
    limit: { type: "number", describe: "Stop after so many" },
    "body-bytes": { type: "number", default: 65_536, describe: "The most bytes of a body that are shown" },
  },
  examples: [
    ["tail order.placed", "what is going on?"],
    ["tail topic:geo --filter geo.us.# --limit 10 --json --broker amqp://localhost", "ten events, for a program"],
  ],
  streams: true,
  json: {
    at: "when it was seen, an ISO 8601 time",
    destination: "the topic, or queue",
    id: "the message's id",
    key: "its key, or null",
    routingKey: "its routing key, or null",
    headers: "the publisher's headers",
    contentType: "what the body is, or null",
    size: "bytes of the body",
    body: "the body as text; in base64 where `bodyEncoding` says so",
    bodyEncoding: "`text` or `base64`",
    bodyCut: "whether only the beginning is here",
  },
  exits: {
    "not-found": "the destination is not there",
    unavailable: "the broker cannot be reached, or shows such messages only to those who take them",
    "not-allowed": "it refuses the login, or a right that watching needs",
  },
  async run({ destination, filter, limit = Number.POSITIVE_INFINITY, "body-bytes": bodyBytes }, frame) {
    const target = findTarget(destination, frame.configuration.destinations ?? []);
    if (target.subscription !== undefined) {
      throw new CommandError(
        "usage",
        `tail watches the topic, not a subscription: write topic:${target.destination.name}`,
      );
    }
    if (filter !== undefined) refuseFilter(filter);
    if (limit < 1) throw new CommandError("usage", "--limit takes a number from 1 up");
    const { kind, name } = target.destination;
    const enough = new AbortController();
    const signal = AbortSignal.any([frame.interruption.signal, enough.signal]);
    let count = 0;
    await watch(
      frame,
      {
        of: { kind, name },
        begun: () => frame.terminal.note(frame.terminal.notePaint.dim(`watching ${name}`)),
        async seen(batch) {
          for (const message of batch) {
            if (count >= limit || signal.aborted) return;
            if (filter !== undefined && !routingMatches(filter, message.routingKey)) continue;
            count++;
            await show(frame, name, message, bodyBytes);
            if (count >= limit) enough.abort();
          }
        },
      },
      signal,
    );
    return { text: `watched ${name}: ${count} seen` };
  },
});

function refuseFilter(filter: string): void {
  try {
    checkFilter("--filter", filter);
  } catch (error) {
    throw isLibraryError(error) ? new CommandError("usage", error.message, { cause: error }) : error;
  }
}

async function show(frame: Frame, destination: string, message: IncomingMessage, bodyBytes: number): Promise<void> {
  const { id, key = null, routingKey = null, contentType = null, body: bytes } = message;
  const at = new Date(frame.context.clock.now()).toISOString();
  const size = bytes.length;
  const body = entryBody(bytes, bodyBytes);
  const headers = userHeaders(message.headers);
  const { paint } = frame.terminal;
  const about = [
    paint.dim(at),
    id,
    ...(key === null ? [] : [`key=${key}`]),
    ...(routingKey === null ? [] : [`routing-key=${routingKey}`]),
    ...Object.entries(headers).map(([name, value]) => `${name}=${value}`),
  ];
  const [time, ...rest] = about;
  await frame.terminal.result(
    { verb: tail.name, at, destination, id, key, routingKey, headers, contentType, size, ...body },
    `${time} ${rest.map(printable).join(" ")}\n${printable(bodyText({ ...body, size }))}`,
  );
}
