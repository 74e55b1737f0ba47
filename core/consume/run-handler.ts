import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { IncomingMessage } from "../adapter.ts";
import { refused, validateBody } from "../body-schema.ts";
import { LONGEST_MS } from "../checks.ts";
import { bytesCodec, type Codec } from "../codec.ts";
import { Deadlines } from "../deadlines.ts";
import {
  type DeadLetterOutcome,
  type HandlerResult,
  type MessageHeaders,
  outcomeKind,
  type PostponeOutcome,
  type RetryOutcome,
} from "../delivery.ts";
import type { Tombstones } from "../destination.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { hasThen, ignoreRejection, isThenable } from "../foreign.ts";
import { codecFailure, decodeCopy } from "../publish/encode-message.ts";
import { HEADER, timeHeader } from "../system-headers.ts";
import type { ConsumerContext, Counts } from "./consumer-context.ts";
import { clean } from "./copies.ts";
import { Attempt, type InFlightDelivery } from "./in-flight.ts";

/** How an attempt ended, or why none was made. */
export type AttemptResult =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly error: unknown; readonly afterMs: number | undefined }
  | { readonly kind: "dead"; readonly reason: DeadLetterReason; readonly error: unknown }
  /** The handler returned `postpone()`. */
  | { readonly kind: "postponed"; readonly afterMs: number }
  /** It came before its due time. */
  | { readonly kind: "early"; readonly delayMs: number };

const DONE: AttemptResult = Object.freeze({ kind: "done" });

/** Is called when an attempt is over; `aborted` says whether its signal was aborted before. */
type OnAttemptOver = (delivery: InFlightDelivery, result: AttemptResult, aborted: boolean) => void;

/** Runs handlers: starts them, holds them to their deadline, and leaves behind those that do not end. */
export class HandlerRunner {
  readonly #context: ConsumerContext;
  readonly #counts: Counts;
  readonly #onOver: OnAttemptOver;
  readonly #deadlines: Deadlines;
  #running = 0;

  constructor(context: ConsumerContext, counts: Counts, onOver: OnAttemptOver) {
    this.#context = context;
    this.#counts = counts;
    this.#onOver = onOver;
    this.#deadlines = new Deadlines(context.clock);
  }

  /** How many attempts run now. */
  get running(): number {
    return this.#running;
  }

  /** Gives a delivery to the handler, unless the precheck has a result. The attempt may be over before this returns. */
  start(delivery: InFlightDelivery): void {
    const { clock, timeoutMs, ordered, tombstones } = this.#context;
    const now = clock.now();
    delivery.state = "running";
    this.#running++;
    const attempt = new Attempt(delivery, this.#context, now);
    delivery.current = attempt;
    const result = precheck(delivery, now, ordered);
    if (result !== undefined) {
      this.#finish(delivery, attempt, result);
      return;
    }
    this.#deadlines.set(delivery, timeoutMs);
    const { incoming } = delivery;
    if (incoming.tombstone === true && tombstones === "skip") this.#finish(delivery, attempt, DONE);
    else this.#read(delivery, attempt);
  }

  #read(delivery: InFlightDelivery, attempt: Attempt): void {
    const invalid = (error: unknown): void =>
      this.#finish(delivery, attempt, { kind: "dead", reason: "invalid", error });
    let body: ReturnType<typeof readBody>;
    try {
      body = readBody(delivery.incoming, this.#context);
    } catch (error) {
      invalid(error);
      return;
    }
    if (isThenable(body)) body.then(({ value }) => this.#call(value, delivery, attempt), invalid);
    else this.#call(body.value, delivery, attempt);
  }

  #call(body: unknown, delivery: InFlightDelivery, attempt: Attempt): void {
    // An asynchronous schema may have taken too long.
    if (attempt.abandoned || delivery.lost) {
      this.#finish(delivery, attempt, DONE);
      return;
    }
    this.#counts.started++;
    const { handler } = this.#context;
    let result: HandlerResult | Promise<HandlerResult>;
    let isLater: boolean;
    try {
      result = handler(body, attempt.delivery);
      isLater = hasThen(result);
    } catch (error) {
      this.#finish(delivery, attempt, failed(error));
      return;
    }
    if (!isLater) {
      this.#finish(delivery, attempt, resultOf(result));
      return;
    }
    // A thenable that is no promise may answer twice, or throw from its then.
    Promise.resolve(result).then(
      (value) => this.#finish(delivery, attempt, resultOf(value)),
      (error: unknown) => this.#finish(delivery, attempt, failed(error)),
    );
  }

  /** Fails a running attempt at its deadline. Its handler may continue beside the retry. */
  overrun(delivery: InFlightDelivery, error = this.#tookTooLong()): void {
    const attempt = delivery.current;
    if (attempt === undefined) return;
    attempt.abort(error);
    this.#finish(delivery, attempt, { kind: "failed", error, afterMs: undefined });
    this.#abandon(attempt);
  }

  #tookTooLong(): MessagingError {
    const { sourceName, timeoutMs } = this.#context;
    const what = `the handler of ${sourceName} took longer than ${timeoutMs} ms`;
    return new MessagingError("timeout", `${what}; raise timeoutMs, or let the handler heed delivery.signal`);
  }

  /** Leaves a running handler behind, without a result. */
  leaveBehind(delivery: InFlightDelivery): void {
    if (delivery.current === undefined) return;
    this.#abandon(delivery.current);
    this.#free(delivery);
  }

  /** Cancels every timer. */
  clear(): void {
    this.#deadlines.clear();
  }

  #finish(delivery: InFlightDelivery, attempt: Attempt, result: AttemptResult): void {
    if (attempt.abandoned) {
      this.#counts.abandoned--;
      return;
    }
    this.#free(delivery);
    this.#onOver(delivery, result, attempt.aborted);
  }

  #free(delivery: InFlightDelivery): void {
    this.#deadlines.lift(delivery);
    delivery.current = undefined;
    this.#running--;
  }

  #abandon(attempt: Attempt): void {
    attempt.abandoned = true;
    this.#counts.abandoned++;
  }
}

/**
 * The result of a delivery that no handler gets; undefined for all others. Ordered destinations have no due times of the
 * engine, and those of other senders are ignored: hundreds of them would wait in place and fill the prefetch.
 */
export function precheck({ incoming }: InFlightDelivery, now: number, ordered: boolean): AttemptResult | undefined {
  const { headers, unreadable, unreadHeaders } = incoming;
  const invalid = unreadable ?? unreadHeaders;
  if (invalid !== undefined) return { kind: "dead", reason: "invalid", error: invalid };
  const expiresAt = timeHeader(headers, HEADER.expiresAt);
  if (expiresAt !== undefined && now >= expiresAt) {
    const error = new MessagingError("timeout", `it was not delivered by ${timeText(expiresAt)}`);
    return { kind: "dead", reason: "expired", error };
  }
  const dueAt = ordered ? undefined : timeHeader(headers, HEADER.dueAt);
  if (dueAt !== undefined && now < dueAt) return { kind: "early", delayMs: Math.min(dueAt - now, LONGEST_MS) };
  return undefined;
}

/** An ISO time, where a `Date` can hold it: any sender may have written it. */
function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms since 1970` : date.toISOString();
}

function failed(error: unknown): AttemptResult {
  return { kind: "failed", error, afterMs: undefined };
}

/** A handler may return anything, and reading it may run code that throws. */
function resultOf(result: unknown): AttemptResult {
  try {
    return readResult(result);
  } catch (error) {
    return failed(error);
  }
}

function readResult(result: unknown): AttemptResult {
  switch (outcomeKind(result)) {
    case undefined:
      return DONE;
    case "dead-letter": {
      const { reason } = result as DeadLetterOutcome;
      if (typeof reason !== "string") break;
      return { kind: "dead", reason: "rejected", error: new MessagingError("refused", reason) };
    }
    case "postpone": {
      const { afterMs } = result as PostponeOutcome;
      if (!isTime(afterMs)) break;
      return { kind: "postponed", afterMs };
    }
    case "retry": {
      const { afterMs } = result as RetryOutcome;
      if (afterMs !== undefined && !isTime(afterMs)) break;
      return { kind: "failed", error: new MessagingError("refused", "the handler asked for a retry"), afterMs };
    }
  }
  return failed(
    new MessagingError(
      "invalid",
      "the handler returned an outcome that retry(), postpone() and deadLetter() do not make",
    ),
  );
}

function isTime(afterMs: unknown): boolean {
  return typeof afterMs === "number" && Number.isFinite(afterMs) && afterMs >= 0;
}

/** What decodes and checks the bodies of a destination. */
interface BodyReader {
  readonly codec: Codec;
  readonly schema: StandardSchemaV1 | undefined;
  readonly tombstones?: Tombstones | undefined;
}

/**
 * Decodes a body and parses it with the schema. Returns a promise only for an asynchronous schema. Throws or rejects with
 * `invalid` for a body that the codec or the schema refuses.
 */
export function readBody(
  incoming: IncomingMessage,
  { codec, schema, tombstones = "dead-letter" }: BodyReader,
): { readonly value: unknown } | Promise<{ readonly value: unknown }> {
  const value = incoming.tombstone === true ? tombstoneBody(codec, tombstones) : decoded(incoming, codec);
  if (isThenable(value)) {
    ignoreRejection(value);
    throw new MessagingError(
      "invalid",
      "decode() of the codec returned a promise, and a codec must not be asynchronous",
    );
  }
  if (schema === undefined) return { value };
  const accepted = (result: StandardSchemaV1.Result<unknown>): { readonly value: unknown } => {
    if (result.issues === undefined) return result;
    const { places, details } = refused(schema, result.issues, value);
    throw new MessagingError("invalid", `the schema refuses the body at ${places}`, details);
  };
  // The text of the cause may quote the body, so it is not in the message.
  const failed = (cause: unknown): never => {
    throw new MessagingError("invalid", "the schema failed on the body; see the cause", { cause });
  };
  let result: ReturnType<typeof validateBody>;
  try {
    result = validateBody(schema, value);
  } catch (cause) {
    return failed(cause);
  }
  return result instanceof Promise ? result.then(accepted, failed) : accepted(result);
}

function decoded(incoming: IncomingMessage, codec: Codec): unknown {
  try {
    return decodeCopy(codec, incoming.body);
  } catch (cause) {
    throw new MessagingError(
      "invalid",
      `the body cannot be decoded as ${codec.contentType}: ${codecFailure(cause)}${encodingHint(incoming)}`,
      { cause },
    );
  }
}

/** Bypasses the codec, which cannot distinguish a tombstone from an empty body. */
function tombstoneBody(codec: Codec, tombstones: Tombstones): unknown {
  if (tombstones !== "dead-letter") return null;
  if (codec.contentType === bytesCodec.contentType) return new Uint8Array();
  throw new MessagingError(
    "invalid",
    'it is a tombstone: a record with a key and no value, which says that what the key names was deleted. Give its destination { tombstones: "skip" } to pass over such records, or "null" to handle them with the body null',
  );
}

const LONGEST_ENCODING = 64;
const GZIP: readonly [number, number] = [0x1f, 0x8b];
/** Content encodings that change no bytes; kombu writes the charset there. */
const PLAIN = /^(?:|identity|binary|8bit|us-ascii|utf-?8)$/i;
const ADVICE = "Give the destination a codec that decodes that first, or have it sent without";

/** Advice for a body that is compressed or otherwise encoded; empty for others. */
function encodingHint({ contentEncoding, headers, body }: IncomingMessage): string {
  const encoding = contentEncoding ?? headerOf(headers, "content-encoding") ?? "";
  if (!PLAIN.test(encoding)) {
    return `. Its content-encoding is "${clean(encoding, LONGEST_ENCODING)}", which this codec does not know. ${ADVICE}`;
  }
  return body[0] === GZIP[0] && body[1] === GZIP[1] ? `. It begins as gzip does. ${ADVICE}` : "";
}

/** Finds a header by its name in any case. */
function headerOf(headers: MessageHeaders, wanted: string): string | undefined {
  for (const name in headers) if (name.toLowerCase() === wanted) return headers[name];
  return undefined;
}
