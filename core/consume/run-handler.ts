import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { IncomingMessage } from "../adapter.ts";
import { refused, validateBody } from "../body-schema.ts";
import { LONGEST_MS } from "../checks.ts";
import { bytesCodec, type Codec } from "../codec.ts";
import { Deadlines } from "../deadlines.ts";
import type { Handler, HandlerResult, Headers } from "../delivery.ts";
import type { Tombstones } from "../destination.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { hasThen, ignoreRejection, isThenable } from "../foreign.ts";
import { type DeadLetterOutcome, outcomeKind, type PostponeOutcome, type RetryOutcome } from "../outcome.ts";
import { codecFailure, decodeCopy } from "../publish/encode-message.ts";
import { HEADER, timeHeader } from "../system-headers.ts";
import type { ConsumerContext, Counts } from "./consumer-context.ts";
import { clean } from "./copies.ts";
import { Attempt, type InFlightDelivery } from "./in-flight.ts";

/** How the bodies of a destination are read. */
interface Reading {
  readonly codec: Codec;
  readonly schema: StandardSchemaV1 | undefined;
  readonly tombstones?: Tombstones | undefined;
}

/**
 * Decodes a body and parses it with the schema. Throws or rejects with `invalid` for a body that either refuses. A
 * promise only where the schema itself is asynchronous.
 */
export function readBody(
  incoming: IncomingMessage,
  { codec, schema, tombstones = "dead-letter" }: Reading,
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
  // What a schema throws may quote the body.
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

/** No codec is asked: most would make a value of no bytes, and none could tell it from an empty body. */
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
/** What says nothing of the bytes: the charset, as kombu writes it, or that there is no encoding. */
const PLAIN = /^(?:|identity|binary|8bit|us-ascii|utf-?8)$/i;
const ADVICE = "Give the destination a codec that decodes that first, or have it sent without";

/** What to do about a body that is compressed or otherwise encoded, if it is. */
function encodingHint({ contentEncoding, headers, body }: IncomingMessage): string {
  const encoding = contentEncoding ?? headerOf(headers, "content-encoding") ?? "";
  if (!PLAIN.test(encoding)) {
    return `. Its content-encoding is "${clean(encoding, LONGEST_ENCODING)}", which this codec does not know. ${ADVICE}`;
  }
  return body[0] === GZIP[0] && body[1] === GZIP[1] ? `. It begins as gzip does. ${ADVICE}` : "";
}

/** By its name in any case: HTTP's names are written in several ways. */
function headerOf(headers: Headers, wanted: string): string | undefined {
  for (const name in headers) if (name.toLowerCase() === wanted) return headers[name];
  return undefined;
}

/** What became of an attempt, or why there was none. */
export type AttemptResult =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly error: unknown; readonly afterMs: number | undefined }
  | { readonly kind: "dead"; readonly reason: DeadLetterReason; readonly error: unknown }
  /** The handler would not try it now. */
  | { readonly kind: "postponed"; readonly afterMs: number }
  /** It came before its time. */
  | { readonly kind: "early"; readonly delayMs: number };

const DONE: AttemptResult = Object.freeze({ kind: "done" });

/**
 * Why a delivery is not given to the handler, if it is not. In order nothing is sent with a delay, so a due time was written by
 * another sender: it would wait in its place, and hundreds of them would fill the prefetch.
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

/** Any sender may have written it, and dates end. */
function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms since 1970` : date.toISOString();
}

/** What the handler is called with and how. */
interface AttemptContext extends Reading {
  readonly handler: Handler<unknown>;
  /** The body could be read and the handler is about to be called; false where it is not wanted any more. */
  begin(held: InFlightDelivery, attempt: Attempt): boolean;
}

/**
 * Reads the body and calls the handler. `finish` is called once with the result, possibly before this returns.
 */
function runAttempt(
  held: InFlightDelivery,
  attempt: Attempt,
  context: AttemptContext,
  finish: (result: AttemptResult) => void,
): void {
  if (held.incoming.tombstone === true && context.tombstones === "skip") {
    finish(DONE);
    return;
  }
  let body: ReturnType<typeof readBody>;
  try {
    body = readBody(held.incoming, context);
  } catch (error) {
    finish({ kind: "dead", reason: "invalid", error });
    return;
  }
  if (isThenable(body)) {
    body.then(
      ({ value }) => call(value, held, attempt, context, finish),
      (error: unknown) => finish({ kind: "dead", reason: "invalid", error }),
    );
  } else {
    call(body.value, held, attempt, context, finish);
  }
}

function call(
  body: unknown,
  held: InFlightDelivery,
  attempt: Attempt,
  context: AttemptContext,
  finish: (result: AttemptResult) => void,
): void {
  if (!context.begin(held, attempt)) {
    finish(DONE);
    return;
  }
  let result: HandlerResult | Promise<HandlerResult>;
  let isLater: boolean;
  try {
    result = context.handler(body, attempt.delivery);
    isLater = hasThen(result);
  } catch (error) {
    finish(failed(error));
    return;
  }
  if (!isLater) {
    finish(resultOf(result));
    return;
  }
  // A thenable that is no promise may answer twice, or throw from its then.
  Promise.resolve(result).then(
    (value) => finish(resultOf(value)),
    (error: unknown) => finish(failed(error)),
  );
}

function failed(error: unknown): AttemptResult {
  return { kind: "failed", error, afterMs: undefined };
}

/** What a handler returns may be anything, and looking at it may run code that throws. */
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

/** Told when an attempt is over; `aborted` tells whether its signal was given before. */
type AttemptOver = (held: InFlightDelivery, result: AttemptResult, aborted: boolean) => void;

/** The handlers that run: started, held to their deadline, and left behind where they will not end. */
export class Handlers {
  readonly #context: ConsumerContext;
  readonly #counts: Counts;
  readonly #over: AttemptOver;
  readonly #attempts: AttemptContext;
  readonly #deadlines: Deadlines;
  #running = 0;

  constructor(context: ConsumerContext, counts: Counts, over: AttemptOver) {
    this.#context = context;
    this.#counts = counts;
    this.#over = over;
    this.#deadlines = new Deadlines(context.clock);
    const begin = (held: InFlightDelivery, attempt: Attempt): boolean => {
      const wanted = !attempt.abandoned && !held.lost;
      if (wanted) counts.started++;
      return wanted;
    };
    this.#attempts = { ...context, begin };
  }

  /** All that run. */
  get running(): number {
    return this.#running;
  }

  /** Gives a delivery to the handler, unless something stands against it; either way the attempt will be over. */
  start(held: InFlightDelivery): void {
    const { clock, timeoutMs } = this.#context;
    const now = clock.now();
    held.state = "running";
    this.#running++;
    const attempt = new Attempt(held, this.#context, now);
    held.current = attempt;
    const result = precheck(held, now, this.#context.ordered);
    if (result !== undefined) {
      this.#finish(held, attempt, result);
      return;
    }
    this.#deadlines.set(held, timeoutMs);
    runAttempt(held, attempt, this.#attempts, (end) => this.#finish(held, attempt, end));
  }

  /** The time of an attempt is over: it has failed, and its handler may go on beside what follows. */
  overrun(held: InFlightDelivery, error = this.#tookTooLong()): void {
    const attempt = held.current;
    if (attempt === undefined) return;
    attempt.abort(error);
    this.#finish(held, attempt, { kind: "failed", error, afterMs: undefined });
    this.#abandon(attempt);
  }

  #tookTooLong(): MessagingError {
    const { sourceName, timeoutMs } = this.#context;
    const what = `the handler of ${sourceName} took longer than ${timeoutMs} ms`;
    return new MessagingError("timeout", `${what}; raise timeoutMs, or let the handler heed delivery.signal`);
  }

  /** Leaves a handler behind without a result, if one runs on this delivery. */
  leaveBehind(held: InFlightDelivery): void {
    if (held.current === undefined) return;
    this.#abandon(held.current);
    this.#free(held);
  }

  /** Lets go of every timer. */
  clear(): void {
    this.#deadlines.clear();
  }

  #finish(held: InFlightDelivery, attempt: Attempt, result: AttemptResult): void {
    if (attempt.abandoned) {
      this.#counts.abandoned--;
      return;
    }
    this.#free(held);
    this.#over(held, result, attempt.aborted);
  }

  #free(held: InFlightDelivery): void {
    this.#deadlines.lift(held);
    held.current = undefined;
    this.#running--;
  }

  #abandon(attempt: Attempt): void {
    attempt.abandoned = true;
    this.#counts.abandoned++;
  }
}
