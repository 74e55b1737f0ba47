import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Adapter, OutgoingMessage } from "../adapter.ts";
import { describeAddress } from "../address.ts";
import { refused, validateBody } from "../body-schema.ts";
import type { Capabilities, CapabilityName } from "../capabilities.ts";
import { checkInteger, checkOptions, checkRoutingKey, LONGEST_MS } from "../checks.ts";
import type { Clock } from "../clock.ts";
import type { Codec } from "../codec.ts";
import { counted } from "../counted.ts";
import { refusal } from "../declarations.ts";
import type { MessageHeaders } from "../delivery.ts";
import type { Queue, Topic } from "../destination.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import { ignoreRejection, isThenable, thrownClass, unawaited } from "../foreign.ts";
import type { PublishOptions, SendOptions } from "../options.ts";
import { HEADER, headerBytes, SYSTEM_PREFIX } from "../system-headers.ts";

const SEND_OPTIONS = ["id", "key", "headers", "delayMs", "ttlMs", "priority", "timeoutMs", "signal"];
const PUBLISH_OPTIONS = ["id", "key", "headers", "delayMs", "ttlMs", "routingKey", "timeoutMs", "signal"];
const LONGEST_ID = 200;
const LONGEST_KEY = 500;
const NO_HEADERS: MessageHeaders = Object.freeze(Object.create(null));
/** Some brokers refuse control characters, and the whole batch with them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;

type Destination = Queue<never, unknown> | Topic<never, unknown>;
type Options = SendOptions & PublishOptions;

/** How messages for one destination are encoded. */
export interface MessageEncoding {
  readonly destination: Destination;
  readonly where: string;
  readonly codec: Codec;
  readonly capabilities: Capabilities;
  readonly adapterName: string;
  readonly clock: Clock;
  readonly makeId: () => string;
}

/**
 * Makes the encoding for a destination on an adapter. Throws `invalid` for another kind of destination, and `unsupported`
 * for one that asks for a capability that the adapter lacks.
 */
export function encodingFor(
  destination: Destination,
  kind: Destination["kind"],
  adapter: Adapter,
  json: Codec,
  clock: Clock,
  makeId: () => string,
): MessageEncoding {
  if (destination?.kind !== kind) {
    const use =
      kind === "queue" ? "send takes a queue; use publish for a topic" : "publish takes a topic; use send for a queue";
    throw new MessagingError("invalid", `${use}, made by queue() or topic()`);
  }
  const { name, options } = destination;
  const where = describeAddress({ kind, name });
  const refuse = (capability: CapabilityName): void => {
    const refused = refusal(where, adapter, capability);
    if (refused !== undefined) throw refused;
  };
  if (options.ordered) refuse("order");
  if (options.durable) refuse("durable");
  if (options.ttlMs !== undefined) refuse("ttl");
  if (kind === "topic") refuse("fanOut");
  return {
    destination,
    where,
    codec: options.codec ?? json,
    capabilities: adapter.capabilities,
    adapterName: adapter.name,
    clock,
    makeId,
  };
}

/** A message that is sent for the first time. */
export interface NewMessage extends OutgoingMessage {
  readonly contentType: string;
}

/**
 * Makes the message for the adapter. Throws `invalid`, `too-large` or `unsupported` before anything is sent. Returns a
 * promise only for an asynchronous schema, so that all other messages keep the order of their calls.
 */
export function encodeMessage(
  context: MessageEncoding,
  body: unknown,
  options: Options | undefined,
): NewMessage | Promise<NewMessage> {
  if (options !== undefined) checkSendOptions(context, options);
  const { where, codec, destination } = context;
  return encodeChecked({ where, codec, schema: destination.schema }, body, (bytes) =>
    build(context, body, bytes, options),
  );
}

/** Wraps the error of a schema, a key function or a codec; leaves a `MessagingError` as it is. */
export function asInvalid(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  const what = "a message could not be made: its schema, key or routing key function threw";
  return new MessagingError("invalid", `${what}. Nothing was sent; see the cause`, { cause: error });
}

function build(context: MessageEncoding, body: unknown, bytes: Uint8Array, options: Options | undefined): NewMessage {
  const { codec, where, clock, capabilities } = context;
  const destination = context.destination as Topic<unknown>;
  if (bytes.length > capabilities.maxMessageBytes) {
    throw new MessagingError(
      "too-large",
      `${where}: the body has ${bytes.length} bytes and ${context.adapterName} takes ${capabilities.maxMessageBytes}. Nothing was sent; put the content elsewhere and send a reference to it`,
    );
  }
  const key = options?.key ?? unawaited(destination.options.key?.(body));
  if (key !== undefined) checkKey(where, key);
  let routingKey: string | undefined;
  if (destination.kind === "topic") {
    routingKey = options?.routingKey ?? unawaited(destination.options.routingKey?.(body));
    if (routingKey !== undefined) checkRoutingKey(where, routingKey);
  }
  const delayMs = options?.delayMs ?? 0;
  const ttlMs = options?.ttlMs ?? destination.options.ttlMs;
  let headers = options?.headers === undefined ? NO_HEADERS : checkHeaders(context, options.headers);
  const id = options?.id;
  if (id !== undefined || ttlMs !== undefined || delayMs > capabilities.delay.maxMs) {
    const now = clock.now();
    const system: Record<string, string> = Object.assign(Object.create(null), headers);
    if (id !== undefined) system[HEADER.publishedAt] = String(now);
    if (ttlMs !== undefined) system[HEADER.expiresAt] = String(now + delayMs + ttlMs);
    if (delayMs > capabilities.delay.maxMs) system[HEADER.dueAt] = String(now + 1 + delayMs);
    headers = system;
  }
  return {
    id: id ?? context.makeId(),
    key,
    routingKey,
    headers,
    body: bytes,
    contentType: codec.contentType,
    size: headers === NO_HEADERS ? bytes.length : bytes.length + headerBytes(headers),
    priority: options?.priority ?? 0,
    delayMs: Math.min(delayMs, capabilities.delay.maxMs),
    // The time to live begins when the delay is over.
    ttlMs: ttlMs === undefined ? undefined : delayMs + ttlMs,
  };
}

/** Whether every broker carries the text unchanged. Half a surrogate pair would arrive as another character. */
function isPlain(text: string): boolean {
  return !CONTROL.test(text) && text.isWellFormed();
}

function checkKey(where: string, key: unknown): void {
  if (typeof key === "string" && key !== "" && key.length <= LONGEST_KEY && isPlain(key)) return;
  throw new MessagingError(
    "invalid",
    `${where}: a key is a well-formed text of 1 to ${LONGEST_KEY} characters without control characters, or undefined for none`,
  );
}

function checkHeaders(context: MessageEncoding, headers: Readonly<Record<string, string>>): MessageHeaders {
  const { where, capabilities } = context;
  if (typeof headers !== "object" || headers === null) {
    throw new MessagingError("invalid", `${where} { headers } takes an object of texts`);
  }
  const own: Record<string, string> = Object.create(null);
  const names = Object.keys(headers);
  for (const name of names) {
    const value = headers[name];
    if (typeof value !== "string" || !isPlain(value) || name === "" || !isPlain(name)) {
      throw new MessagingError(
        "invalid",
        `${where}: the header "${name.toWellFormed()}" must be a well-formed text without control characters, under a name of at least one character`,
      );
    }
    if (name.startsWith(SYSTEM_PREFIX)) {
      throw new MessagingError(
        "invalid",
        `${where}: header names that begin with "${SYSTEM_PREFIX}" are anybroker's own`,
      );
    }
    own[name] = value;
  }
  const bytes = headerBytes(own);
  if (names.length > capabilities.maxHeaders || bytes > capabilities.maxHeaderBytes) {
    throw new MessagingError(
      "too-large",
      `${where}: too much for ${context.adapterName}: ${counted(names.length, "header")} with ${counted(bytes, "byte")} (at most ${capabilities.maxHeaders} headers, ${capabilities.maxHeaderBytes} bytes). Nothing was sent; move what is large into the body`,
    );
  }
  return own;
}

function checkSendOptions(context: MessageEncoding, options: Options): void {
  const { where, destination, capabilities } = context;
  checkOptions(where, options, destination.kind === "queue" ? SEND_OPTIONS : PUBLISH_OPTIONS);
  const { id, delayMs, ttlMs, priority, timeoutMs, signal } = options;
  if (id !== undefined && (typeof id !== "string" || id === "" || id.length > LONGEST_ID || !isPlain(id))) {
    throw new MessagingError(
      "invalid",
      `${where}: an id is a well-formed text of 1 to ${LONGEST_ID} characters without control characters`,
    );
  }
  if (timeoutMs !== undefined) checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new MessagingError("invalid", `${where} { signal } is no AbortSignal; give the signal of an AbortController`);
  }
  if (delayMs !== undefined && delayMs !== 0) {
    checkInteger(`${where} { delayMs }`, delayMs, 0, LONGEST_MS);
    if (capabilities.delay.support === "unsupported") throw unsupported(context, "delay");
    if (destination.options.ordered) {
      throw new MessagingError(
        "invalid",
        `${where} { delayMs }: a delayed message would be overtaken, and this destination is ordered. Send it without delay, or to a destination that is not ordered`,
      );
    }
  }
  if (ttlMs !== undefined) {
    checkInteger(`${where} { ttlMs }`, ttlMs, 1, LONGEST_MS);
    if (capabilities.ttl.support === "unsupported") throw unsupported(context, "ttl");
  }
  if (priority !== undefined && priority !== 0) {
    if (capabilities.priority.support === "unsupported") throw unsupported(context, "priority");
    const priorities = (destination as Queue<never>).options.priorities ?? 1;
    if (priorities < 2) {
      const next = `declare it with priorities, as in queue("${destination.name}", { priorities: 5 }) or queue:${destination.name},priorities=5`;
      throw new MessagingError(
        "invalid",
        `${where} { priority } is for a queue with priorities, and it has none; ${next}`,
      );
    }
    checkInteger(`${where} { priority } of a queue with ${priorities} priorities`, priority, 0, priorities - 1);
  }
}

function unsupported(context: MessageEncoding, capability: "delay" | "ttl" | "priority"): MessagingError {
  const { note } = context.capabilities[capability];
  return new MessagingError("unsupported", `${context.where}: ${context.adapterName} has no ${capability}: ${note}`);
}

/** The schema and codec for a body, and its destination for error messages. */
interface BodyForm {
  readonly where: string;
  readonly schema: StandardSchemaV1 | undefined;
  readonly codec: Codec;
}

/**
 * Checks a body, encodes it, and returns what `encoded` makes of the bytes; a promise only for an asynchronous schema.
 * Throws `invalid` for a body that the schema refuses, that the codec cannot encode, or that would be refused on arrival.
 * Throws or rejects as the schema does.
 */
export function encodeChecked<Made>(
  form: BodyForm,
  body: unknown,
  encoded: (bytes: Uint8Array) => Made,
): Made | Promise<Made> {
  const { schema } = form;
  if (schema === undefined) return encoded(encodeBody(form, body));
  const accepted = ({ issues }: StandardSchemaV1.Result<unknown>): Made | Promise<Made> => {
    if (issues === undefined) return checkArrival(form, schema, body, encoded);
    const { places, details } = refused(schema, issues, body);
    throw new MessagingError(
      "invalid",
      `${form.where}: the schema refuses the body at ${places}. Nothing was sent; correct the body, or the schema`,
      details,
    );
  };
  const result = validateBody(schema, body);
  return result instanceof Promise ? result.then(accepted) : accepted(result);
}

/** Checks also what a consumer would read, unless the codec says that it equals the body. */
function checkArrival<Made>(
  form: BodyForm,
  schema: StandardSchemaV1,
  body: unknown,
  encoded: (bytes: Uint8Array) => Made,
): Made | Promise<Made> {
  const bytes = encodeBody(form, body);
  if (keeps(form.codec, body)) return encoded(bytes);
  const made = encoded(bytes);
  const arrives = decodeAgain(form, bytes);
  const taken = ({ issues }: StandardSchemaV1.Result<unknown>): Made => {
    if (issues === undefined) return made;
    const { places, details } = refused(schema, issues, arrives);
    const what = `the schema takes the body, and would refuse what arrives of it as ${form.codec.contentType}, at ${places}`;
    const next =
      "let the schema take what arrives (a text for a date), or give the destination a codec that carries it";
    throw new MessagingError("invalid", `${form.where}: ${what}. Nothing was sent; ${next}`, details);
  };
  const result = validateBody(schema, arrives);
  return result instanceof Promise ? result.then(taken) : taken(result);
}

/** False where the codec does not answer. */
function keeps(codec: Codec, body: unknown): boolean {
  try {
    return unawaited<unknown>(codec.keeps?.(body)) === true;
  } catch {
    return false;
  }
}

/** Decodes the bytes as a consumer would. */
function decodeAgain({ where, codec }: BodyForm, bytes: Uint8Array): unknown {
  try {
    const body = decodeCopy(codec, bytes);
    ignoreRejection(body);
    if (!isThenable(body)) return body;
  } catch (cause) {
    const what = `the codec cannot decode what it encoded: ${codecFailure(cause)}`;
    throw new MessagingError("invalid", `${where}: ${what}. Nothing was sent`, { cause });
  }
  throw new MessagingError(
    "invalid",
    `${where}: decode() of the codec returned a promise, and a codec must not be asynchronous. Nothing was sent`,
  );
}

function encodeBody({ where, schema, codec }: BodyForm, body: unknown): Uint8Array {
  let bytes: unknown;
  try {
    bytes = codec.encode(body);
  } catch (cause) {
    const rawIssues = isMessagingError(cause) ? cause.rawIssues : [];
    // The issues of a codec quote nothing of the body.
    const { places, details } = refused(schema, rawIssues, undefined);
    const at = places === "" ? "" : ` at ${places}`;
    const what = `the body cannot be encoded${at}: ${codecFailure(cause)}`;
    const next = "; send what the codec carries, or give the destination another codec";
    throw new MessagingError("invalid", `${where}: ${what}. Nothing was sent${next}`, { cause, ...details });
  }
  // Copied, because the caller or the codec may reuse its buffer before the broker has the message.
  if (bytes instanceof Uint8Array && isAttached(bytes)) return Buffer.from(bytes);
  // The promise of an async codec must not be sent as an empty body.
  ignoreRejection(bytes);
  const what = isThenable(bytes)
    ? "a promise, and a codec must not be asynchronous"
    : bytes instanceof Uint8Array
      ? "bytes whose buffer was transferred or made shorter, so that they are gone"
      : "no Uint8Array";
  throw new MessagingError("invalid", `${where}: encode() of the codec returned ${what}. Nothing was sent`);
}

/** A view on a buffer that is gone has a length of 0, as empty bytes have. */
function isAttached(bytes: Uint8Array): boolean {
  if (bytes.byteLength > 0) return true;
  try {
    Uint8Array.prototype.values.call(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Decodes a copy of the bytes, because a handler may change it and other attempts and subscriptions share the original. */
export function decodeCopy(codec: Codec, bytes: Uint8Array): unknown {
  return codec.decode(new Uint8Array(bytes));
}

/** Describes what a codec threw. The text of foreign errors may quote the body, so it is left out. */
export function codecFailure(cause: unknown): string {
  return isMessagingError(cause, "invalid") ? cause.message : `the codec threw ${thrownClass(cause)}; see the cause`;
}
