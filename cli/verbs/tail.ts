import type { IncomingMessage, Watcher } from "../../core/adapter.ts";
import { describeAddress, type QueueAddress, type TopicAddress } from "../../core/address.ts";
import { checkFilter } from "../../core/checks.ts";
import { pause } from "../../core/clock.ts";
import { routingMatches } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { userHeaders } from "../../core/system-headers.ts";
import { entryBody } from "../../patterns/dead-letters/entry.ts";
import { bodyText } from "../dead-letters-of.ts";
import { CommandError, isLibraryError } from "../exit-codes.ts";
import { type Frame, nearNameFirst, withBroker } from "../frame.ts";
import { findTarget } from "../target.ts";
import { printable } from "../terminal.ts";
import { verb } from "../verb.ts";
import { toldText } from "../wording.ts";

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

/** What to watch, with callbacks. */
interface Watching {
  readonly of: QueueAddress | TopicAddress;
  /** Called when watching begins: messages sent from then on are seen. */
  begun(): void;
  /** Called with one batch at a time. */
  readonly seen: Watcher["seen"];
}

const RETRY_MS = 500;

/**
 * Watches what is sent, without consuming it, until the signal is aborted. Misses messages while the connection is lost.
 * Rejects with a `CommandError` if the broker cannot watch this.
 */
async function watch(frame: Frame, { of, begun, seen }: Watching, signal: AbortSignal): Promise<void> {
  await withBroker(frame, { destinations: [] }, async ({ adapter }) => {
    if (adapter.watch === undefined) throw cannot(`${adapter.name} cannot watch ${describeAddress(of)}`);
    for (let hasBegun = false; !signal.aborted; ) {
      const ended = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => ended.resolve(), { once: true });
      try {
        const end = await adapter.watch(of, {
          seen: (batch) => seen(batch).catch(ended.reject),
          ended: (cause) => {
            frame.terminal.note(frame.terminal.notePaint.yellow(frame.secrets.masked(toldText(cause))));
            ended.resolve();
          },
        });
        if (!hasBegun) begun();
        hasBegun = true;
        try {
          await ended.promise;
        } finally {
          await end();
        }
      } catch (error) {
        if (isMessagingError(error, "unsupported")) throw cannot(error.message);
        if (!hasBegun && isMessagingError(error, "not-found")) {
          throw await nearNameFirst(error, adapter, of, frame.configuration.destinations ?? []);
        }
        // The broker is unreachable for now, and watching had begun.
        if (!hasBegun || !isMessagingError(error, "unreachable")) throw error;
      }
      await pause(frame.context.clock, RETRY_MS, signal);
    }
  });
}

function cannot(why: string): CommandError {
  const instead = '"anybroker top" counts waiting messages, "anybroker dlq ls" shows dead letters';
  return new CommandError("unavailable", `tail consumes nothing, and ${why}. ${instead}`);
}
