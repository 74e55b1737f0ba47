import { createHash, type Hash } from "node:crypto";
import type { IncomingMessage } from "../../core/adapter.ts";
import { HEADER, HEADERS_NOT_READ, numberHeader, publishedAt, userHeaders } from "../../core/system-headers.ts";
import { fingerprint } from "./fingerprint.ts";

const DIGEST_BYTES = 16;
const FIELD_END = "\n";

/** A message in the dead letters, with what its headers say of it. What is looked up seldom is worked out when asked for. */
export class DeadLetter {
  readonly message: IncomingMessage;
  /** Where it was to be handled: `orders`, `order.placed..billing`. */
  readonly destination: string;
  #id: string | undefined;
  #content: string | undefined;
  #group: string | undefined;

  constructor(message: IncomingMessage, destination: string) {
    this.message = message;
    this.destination = destination;
  }

  /**
   * Names this entry: a digest of everything about it, so that it is the same whenever and however it is looked at, and on
   * every broker. The same message, dead-lettered once more, is another entry; copies that are equal in everything are one.
   */
  get id(): string {
    this.#id ??= digestOf(this.message, this.message.headers);
    return this.#id;
  }

  /** What copies of one message have in common: its id, body and the publisher's headers. */
  get content(): string {
    this.#content ??= digestOf(this.message, userHeaders(this.message.headers));
    return this.#content;
  }

  /** The fingerprint of its failure. */
  get group(): string {
    this.#group ??= fingerprint(this.destination, this.errorClass, this.error);
    return this.#group;
  }

  get reason(): string {
    return this.#header(HEADER.deadReason) ?? "unknown";
  }

  get errorClass(): string | undefined {
    return this.#header(HEADER.deadErrorClass);
  }

  get error(): string | undefined {
    return this.#header(HEADER.deadError);
  }

  get attempts(): number | undefined {
    return this.#number(HEADER.deadAttempts) ?? this.#number(HEADER.attempts);
  }

  /** How often it was sent back from the dead letters before. */
  get replays(): number {
    return numberHeader(this.message.headers, HEADER.replays, 0);
  }

  get replayRun(): string | undefined {
    return this.#header(HEADER.replayRun);
  }

  get editedFrom(): string | undefined {
    return this.#header(HEADER.editedFrom);
  }

  /** Where the message is stored that this one refers to; undefined where it is the message itself. */
  get reference(): string | undefined {
    return this.#header(HEADER.deadReference);
  }

  /** What the message lost on its way here, in words. */
  get cut(): string | undefined {
    return this.#header(HEADER.cut) ?? this.#header(HEADERS_NOT_READ);
  }

  /** Milliseconds since 1970. */
  get firstFailedAt(): number | undefined {
    return this.#time(HEADER.deadFirstAt);
  }

  /** Milliseconds since 1970. */
  get lastFailedAt(): number | undefined {
    return this.#time(HEADER.deadLastAt);
  }

  /** Milliseconds since 1970; undefined where nothing tells. */
  get firstPublishedAt(): number | undefined {
    return publishedAt(this.message.headers, this.message.id) ?? this.message.sentAt;
  }

  /** What entries are put in order by: when it failed last, else when it was published. */
  get time(): number {
    return this.lastFailedAt ?? this.firstPublishedAt ?? 0;
  }

  #header(name: string): string | undefined {
    return this.message.headers[name];
  }

  #number(name: string): number | undefined {
    const value = numberHeader(this.message.headers, name, -1);
    return value < 0 ? undefined : value;
  }

  #time(name: string): number | undefined {
    const value = Date.parse(this.#header(name) ?? "");
    return Number.isNaN(value) ? undefined : value;
  }
}

function digestOf(message: IncomingMessage, headers: Readonly<Record<string, string>>): string {
  const hash = createHash("sha256");
  for (const field of [message.id, message.key, message.routingKey, message.contentType]) update(hash, field);
  for (const name of Object.keys(headers).sort()) {
    update(hash, name);
    update(hash, headers[name]);
  }
  hash.update(FIELD_END);
  hash.update(message.body);
  return hash.digest().subarray(0, DIGEST_BYTES).toString("base64url");
}

/** With its length before it, so that two fields never run into one. */
function update(hash: Hash, field: string | undefined): void {
  hash.update(field === undefined ? "-" : `${field.length}:${field}`);
}
