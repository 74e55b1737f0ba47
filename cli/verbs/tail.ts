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
  summary: "Watch events as they are published, without consuming them",
  teaches: `Shows what is published from now on, until Ctrl-C or --limit, without consuming it:

- RabbitMQ: an exclusive queue, gone with the connection. Meanwhile an event without a subscription is not "unroutable".
- Kafka: reads the log without a group.
- SQS: creates a queue anybroker-tail-… and removes it. A killed process leaves it, with at most five minutes of events.

Skips events while disconnected. Watches queues on Kafka and in process only.`,
  positionals: {
    destination: {
      type: "string",
      demandOption: true,
      describe: "order.placed, topic:order.placed; on Kafka, orders",
    },
  },
  options: {
    filter: { type: "string", describe: "Only routing keys like geo.us.*, geo.#" },
    limit: { type: "number", describe: "Stop after this many" },
    "body-bytes": { type: "number", default: 65_536, describe: "The most bytes shown of a body" },
  },
  examples: [
    ["tail order.placed", "what is going on?"],
    ["tail topic:geo --filter geo.us.# --limit 10 --json --broker amqp://localhost", "ten events, for a program"],
  ],
  streams: true,
  json: {
    at: "",
    destination: "",
    id: "",
    key: "",
    routingKey: "",
    headers: "",
    contentType: "",
    size: "",
    body: "",
    bodyEncoding: "`text` or `base64`",
    bodyCut: "",
  },
  exits: {
    "not-found": "",
    unavailable: "also: a queue on RabbitMQ or SQS",
    "not-allowed": "",
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
