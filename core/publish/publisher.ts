import type { Adapter, OutgoingMessage } from "../adapter.ts";
import type { BatchEntry, Publisher, Receipt } from "../broker.ts";
import { checkEntries } from "../checks.ts";
import type { Clock, Random } from "../clock.ts";
import type { Codec } from "../codec.ts";
import type { Queue, Topic } from "../destination.ts";
import { isMessagingError, MessagingError, type SendOutcome } from "../errors.ts";
import { unawaited } from "../foreign.ts";
import { messageIds } from "../message-ids.ts";
import type { PublishOptions, SendOptions } from "../options.ts";
import { asInvalid, encodeMessage, encodingFor, type MessageEncoding } from "./encode-message.ts";
import type { Route } from "./publish-queue.ts";
import type { PublisherEngine } from "./publisher-engine.ts";

type Destination = Queue<never, unknown> | Topic<never, unknown>;

/** How messages for one destination are encoded and where they go. */
interface Target extends MessageEncoding {
  readonly route: Route;
  readonly discardUnroutable: boolean;
}

/** The publisher of a broker object: checks and encodes messages, and passes them to the publisher engine. */
export class DestinationPublisher implements Publisher {
  readonly #adapter: Adapter;
  readonly #publishing: PublisherEngine;
  readonly #clock: Clock;
  readonly #makeId: () => string;
  readonly #targets = new WeakMap<Destination, Target>();
  readonly #json: Codec;

  constructor(adapter: Adapter, publishing: PublisherEngine, clock: Clock, random: Random, json: Codec) {
    this.#adapter = adapter;
    this.#publishing = publishing;
    this.#clock = clock;
    this.#json = json;
    this.#makeId = messageIds(clock, random);
  }

  send<Input, Output>(queue: Queue<Input, Output>, body: Input, options?: SendOptions): Promise<Receipt> {
    return this.#send(queue, body, options, "queue");
  }

  publish<Input, Output>(topic: Topic<Input, Output>, body: Input, options?: PublishOptions): Promise<Receipt> {
    return this.#send(topic, body, options, "topic");
  }

  sendMany<Input, Output>(
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<Input, SendOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("sendMany", entries, ({ body, options }) => this.send(queue, body, options));
  }

  publishMany<Input, Output>(
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<Input, PublishOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("publishMany", entries, ({ body, options }) => this.publish(topic, body, options));
  }

  #send(
    destination: Destination,
    body: unknown,
    options: (SendOptions & PublishOptions) | undefined,
    kind: Destination["kind"],
  ): Promise<Receipt> {
    try {
      this.#publishing.requireOpen();
      // A destination of the other kind may be known from the other method.
      const known = destination?.kind === kind ? this.#targets.get(destination) : undefined;
      const target = known ?? this.#target(destination, kind);
      const message = encodeMessage(target, body, options);
      const turn = turnOf(target, message, body, options?.key);
      if (!(message instanceof Promise) && turn?.before === undefined) {
        return this.#enqueue(target, message, options?.timeoutMs, options?.signal);
      }
      return this.#enqueueInTurn(target, message, turn, options);
    } catch (error) {
      return Promise.reject(asInvalid(error));
    }
  }

  #enqueueInTurn(
    target: Target,
    message: OutgoingMessage | Promise<OutgoingMessage>,
    turn: Turn | undefined,
    options: (SendOptions & PublishOptions) | undefined,
  ): Promise<Receipt> {
    const { signal, timeoutMs = this.#publishing.timeoutMs } = options ?? {};
    const ready = Promise.all([message, turn?.before]).then(([made]) => made);
    const ended = turn === undefined ? (): void => {} : takeTurn(target.route, turn);
    const sent = abortable(target.where, signal, (handOn) => {
      const handedOn = (): void => {
        handOn();
        ended();
      };
      return this.#enqueueLater(target, ready, timeoutMs, handedOn, signal);
    });
    sent.then(ended, ended);
    return sent;
  }

  /** Waits for an asynchronous schema, also that of earlier messages of the key. The time counts in the send's `timeoutMs`. */
  #enqueueLater(
    target: Target,
    message: Promise<OutgoingMessage>,
    timeoutMs: number,
    handOn: () => void,
    signal: AbortSignal | undefined,
  ): Promise<Receipt> {
    const clock = this.#clock;
    const until = clock.monotonic() + timeoutMs;
    return new Promise((resolve, reject) => {
      const timer = clock.schedule(() => {
        const what = `${target.where}: its schema, or that of an earlier message of its key, took longer than the ${timeoutMs} ms that the send has`;
        reject(new MessagingError("timeout", `${what}. Nothing was sent`));
      }, timeoutMs);
      message.then(
        (made) => {
          clock.cancel(timer);
          const leftMs = Math.ceil(until - clock.monotonic());
          if (leftMs <= 0) return;
          resolve(this.#enqueue(target, made, leftMs, signal));
          handOn();
        },
        (error: unknown) => {
          clock.cancel(timer);
          reject(asInvalid(error));
        },
      );
    });
  }

  #enqueue(
    target: Target,
    message: OutgoingMessage,
    timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Receipt> {
    if (signal?.aborted) return Promise.reject(aborted(target.where, signal));
    const sent = this.#publishing.send(target.route, message, timeoutMs, signal);
    if (!target.discardUnroutable) return sent;
    return sent.catch((error: unknown) => {
      if (isMessagingError(error, "unroutable")) return { id: message.id };
      throw error;
    });
  }

  #target(destination: Destination, kind: Destination["kind"]): Target {
    const made = encodingFor(destination, kind, this.#adapter, this.#json, this.#clock, this.#makeId);
    const { name, options } = destination;
    const target: Target = {
      ...made,
      route: this.#publishing.route({ kind, name }, options.ordered === true),
      discardUnroutable: destination.kind === "topic" && destination.options.whenUnroutable === "discard",
    };
    this.#targets.set(destination, target);
    return target;
  }
}

/** A message's place among those of its key. */
interface Turn {
  readonly key: string;
  /** Resolves when the message before it was handed on or has failed; undefined if it is the first. */
  readonly before: Promise<void> | undefined;
}

/** The turn of a message that must not pass others; undefined where there is no order. */
function turnOf(
  { destination, route }: Target,
  message: OutgoingMessage | Promise<OutgoingMessage>,
  body: unknown,
  given: string | undefined,
): Turn | undefined {
  if (!route.ordered) return undefined;
  const key = message instanceof Promise ? (given ?? keyOf(destination, body)) : message.key;
  return key === undefined ? undefined : { key, before: route.validating.get(key) };
}

/** Lets later messages of the key wait until the returned function is called, and the messages before it have ended too. */
function takeTurn({ validating }: Route, { key, before }: Turn): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  validating.set(key, promise);
  void promise.then(() => {
    if (validating.get(key) === promise) validating.delete(key);
  });
  return () => resolve(before);
}

/** The key that the message will have. What the key function throws fails the message itself, once it is validated. */
function keyOf({ options }: Destination, body: unknown): string | undefined {
  try {
    return unawaited(options.key?.(body as never));
  } catch {
    return undefined;
  }
}

/** Sends each entry and gathers the receipts. Rejects with `invalid`, before anything is sent, for a wrong list. */
export async function sendEach<One>(
  where: string,
  entries: readonly One[],
  send: (entry: One) => Promise<Receipt>,
): Promise<readonly Receipt[]> {
  checkEntries(where, entries);
  const ends = await Promise.allSettled(entries.map(send));
  const receipts = ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
  if (receipts.length === ends.length) return receipts;
  const outcomes = ends.map((end): SendOutcome => {
    if (end.status === "fulfilled") return { status: "confirmed", id: end.value.id };
    return { status: "failed", error: end.reason as MessagingError };
  });
  const failed = ends.length - receipts.length;
  throw new MessagingError(
    "partly-failed",
    `${failed} of ${ends.length} messages failed; error.outcomes has the end of each, in order`,
    { outcomes },
  );
}

/** The error of a send whose signal was aborted while only this process had the message. */
export function aborted(what: string, signal: AbortSignal): MessagingError {
  const text = `${what}: its signal was aborted before the message was handed to the broker; it was not sent`;
  return new MessagingError("aborted", text, { cause: signal.reason });
}

/**
 * Rejects with `aborted` if the signal is aborted before `start` calls `handOn`; otherwise ends as `start` does.
 * `start` must pass the signal on with the message.
 */
export function abortable<Result>(
  what: string,
  signal: AbortSignal | undefined,
  start: (handOn: () => void) => Promise<Result>,
): Promise<Result> {
  if (signal === undefined) return start(() => undefined);
  if (signal.aborted) return Promise.reject(aborted(what, signal));
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(aborted(what, signal));
    const handOn = (): void => signal.removeEventListener("abort", onAbort);
    signal.addEventListener("abort", onAbort, { once: true });
    start(handOn).then(resolve, reject).finally(handOn);
  });
}
