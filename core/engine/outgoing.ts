import type { OutgoingMessage } from "../adapter.ts";
import type { Capabilities } from "../capabilities.ts";
import type { Clock } from "../clock.ts";
import type { Codec } from "../codec.ts";
import type { Headers } from "../delivery.ts";
import type { Queue, Topic } from "../destination.ts";
import { MessagingError } from "../errors.ts";
import { unawaited } from "../foreign.ts";
import { checkInteger, checkOptions, checkRoutingKey, LONGEST_MS } from "../names.ts";
import type { PublishOptions, SendOptions } from "../options.ts";
import { HEADER, headerBytes, SYSTEM_PREFIX } from "../system-headers.ts";
import { encodeChecked } from "./outgoing-body.ts";

const SEND_OPTIONS = ["id", "key", "headers", "delayMs", "ttlMs", "priority", "timeoutMs"];
const PUBLISH_OPTIONS = ["id", "key", "headers", "delayMs", "ttlMs", "routingKey", "timeoutMs"];
const LONGEST_ID = 200;
const LONGEST_KEY = 500;
const NO_HEADERS: Headers = Object.freeze(Object.create(null));
/** No control characters: some brokers refuse them, and refuse the whole batch with them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Whether every broker carries the text as it is. Half a surrogate pair would come back as another character. */
function isPlain(text: string): boolean {
  return !CONTROL.test(text) && text.isWellFormed();
}

/** What a destination's messages are made with. */
export interface Outgoing {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  readonly where: string;
  readonly codec: Codec;
  readonly capabilities: Capabilities;
  readonly adapterName: string;
  readonly clock: Clock;
  readonly makeId: () => string;
}

type Options = SendOptions & PublishOptions;

/** One that is sent for the first time. */
export interface NewMessage extends OutgoingMessage {
  readonly contentType: string;
}

/**
 * Makes the message that goes on the wire, or throws (`invalid`, `too-large`, `unsupported`) before anything is sent. A
 * promise only where the schema itself is asynchronous, so that messages keep the order of their calls otherwise.
 */
export function outgoing(
  context: Outgoing,
  body: unknown,
  options: Options | undefined,
): NewMessage | Promise<NewMessage> {
  if (options !== undefined) checkSendOptions(context, options);
  const { where, codec, destination } = context;
  return encodeChecked({ where, codec, schema: destination.schema }, body, (bytes) =>
    build(context, body, bytes, options),
  );
}

function build(context: Outgoing, body: unknown, bytes: Uint8Array, options: Options | undefined): NewMessage {
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

function checkKey(where: string, key: unknown): void {
  if (typeof key === "string" && key !== "" && key.length <= LONGEST_KEY && isPlain(key)) return;
  throw new MessagingError(
    "invalid",
    `${where}: a key is a well-formed text of 1 to ${LONGEST_KEY} characters without control characters, or undefined for none`,
  );
}

function checkHeaders(context: Outgoing, headers: Readonly<Record<string, string>>): Headers {
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
      `${where}: ${names.length} headers of ${bytes} bytes are more than ${context.adapterName} takes (${capabilities.maxHeaders} headers, ${capabilities.maxHeaderBytes} bytes). Nothing was sent; move what is large into the body`,
    );
  }
  return own;
}

function checkSendOptions(context: Outgoing, options: Options): void {
  const { where, destination, capabilities } = context;
  checkOptions(where, options, destination.kind === "queue" ? SEND_OPTIONS : PUBLISH_OPTIONS);
  const { id, delayMs, ttlMs, priority, timeoutMs } = options;
  if (id !== undefined && (typeof id !== "string" || id === "" || id.length > LONGEST_ID || !isPlain(id))) {
    throw new MessagingError(
      "invalid",
      `${where}: an id is a well-formed text of 1 to ${LONGEST_ID} characters without control characters`,
    );
  }
  if (timeoutMs !== undefined) checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
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

function unsupported(context: Outgoing, capability: "delay" | "ttl" | "priority"): MessagingError {
  const { note } = context.capabilities[capability];
  return new MessagingError("unsupported", `${context.where}: ${context.adapterName} has no ${capability}: ${note}`);
}
