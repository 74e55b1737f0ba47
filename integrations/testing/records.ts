import { checkName } from "../../core/checks.ts";
import {
  type Address,
  addressName,
  type Codec,
  type Headers,
  jsonCodec,
  MessagingError,
  type OutgoingMessage,
  type Queue,
  type Topic,
  type WorkAddress,
  workAddress,
} from "../../core/index.ts";
import { decodeCopy } from "../../core/publish/encode-message.ts";
import { HEADER, numberHeader, userHeaders } from "../../core/system-headers.ts";
import type { Success } from "./watch-handlers.ts";

/** What the records of a kit have in common. */
export interface RecordedMessage {
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** Without the engine's own. */
  readonly headers: Headers;
  /** When it was recorded, by the kit's clock. */
  readonly at: Date;
}

/** A message that the application sent and the broker has. */
export interface SentMessage<Body> extends RecordedMessage {
  /** The body as the wire carries it: what the codec reads from its bytes. A fresh one at each call. */
  readonly body: Body;
  /** Undefined only for what came from another sender, and was sent back without one. */
  readonly contentType: string | undefined;
  readonly delayMs: number;
  readonly priority: number;
  /** Milliseconds, from its sending, after which it need not be delivered. */
  readonly ttlMs: number | undefined;
}

/** A message that was handled: the handler succeeded and the delivery is settled. */
export interface ConsumedMessage<Body> extends RecordedMessage {
  /** The very value that the handler was given; what the handler changed in it shows. */
  readonly body: Body;
  /** 1 if it succeeded at once. */
  readonly attempt: number;
  readonly firstPublishedAt: Date;
}

/** A message that stands in the dead letters. */
export interface DeadLetterRecord extends RecordedMessage {
  /** `orders`, `order.placed..billing`. */
  readonly source: string;
  /** As in `DeadLetterReason`. */
  readonly reason: string;
  readonly attempts: number;
  readonly errorClass: string;
  readonly error: string;
  /** What the codec reads from its bytes; undefined where it cannot. */
  readonly body: unknown;
  readonly bytes: Uint8Array;
}

type AnyDestination = Queue<never, unknown> | Topic<never, unknown>;

interface Sent {
  readonly message: OutgoingMessage;
  readonly at: Date;
}

interface Dead extends Sent {
  readonly source: string;
}

interface Consumed {
  readonly success: Success;
  readonly at: Date;
}

/** What was sent, consumed and dead-lettered through a kit. */
export class Records {
  readonly #json = jsonCodec();
  readonly #sent = new Map<string, Sent[]>();
  readonly #consumed = new Map<string, Consumed[]>();
  #dead: Dead[] = [];

  addSent(to: Address, message: OutgoingMessage, at: Date): void {
    add(this.#sent, nameOf(to), { message, at });
  }

  addConsumed(work: WorkAddress, success: Success, at: Date): void {
    add(this.#consumed, addressName(work), { success, at });
  }

  addDead(work: WorkAddress, message: OutgoingMessage, at: Date): void {
    this.#dead.push({ source: addressName(work), message, at });
  }

  /** A dead letter was taken out: sent back, or discarded. */
  removeDead(work: WorkAddress, id: string): void {
    const source = addressName(work);
    const gone = this.#dead.findIndex((dead) => dead.source === source && dead.message.id === id);
    if (gone >= 0) this.#dead.splice(gone, 1);
  }

  clear(): void {
    this.#sent.clear();
    this.#consumed.clear();
    this.#dead = [];
  }

  sent<Body>(destination: AnyDestination): readonly SentMessage<Body>[] {
    checkDestination("sent", destination);
    const codec = this.#codecOf(destination);
    return (this.#sent.get(nameOf(destination)) ?? []).map(({ message, at }) => ({
      ...common(message, at),
      body: decodeCopy(codec, message.body) as Body,
      contentType: message.contentType,
      delayMs: message.delayMs,
      priority: message.priority,
      ttlMs: message.ttlMs,
    }));
  }

  consumed<Body>(destination: AnyDestination, subscription?: string): readonly ConsumedMessage<Body>[] {
    const source = sourceOf("consumed", destination, subscription);
    return (this.#consumed.get(source) ?? []).map(({ success: { body, delivery }, at }) => {
      const { id, key, routingKey, headers, attempt, firstPublishedAt } = delivery;
      return { id, key, routingKey, headers: { ...headers }, attempt, firstPublishedAt, at, body: body as Body };
    });
  }

  deadLetters(destination?: AnyDestination, subscription?: string): readonly DeadLetterRecord[] {
    const source = destination === undefined ? undefined : sourceOf("deadLetters", destination, subscription);
    const codec = this.#codecOf(destination);
    return this.#dead
      .filter((dead) => source === undefined || dead.source === source)
      .map(({ source, message, at }) => ({
        ...common(message, at),
        source,
        reason: message.headers[HEADER.deadReason] ?? "",
        attempts: numberHeader(message.headers, HEADER.deadAttempts, 0),
        errorClass: message.headers[HEADER.deadErrorClass] ?? "",
        error: message.headers[HEADER.deadError] ?? "",
        body: decoded(codec, message.body),
        bytes: message.body,
      }));
  }

  #codecOf(destination: AnyDestination | undefined): Codec {
    return destination?.options.codec ?? this.#json;
  }
}

function common({ id, key, routingKey, headers }: OutgoingMessage, at: Date): RecordedMessage {
  return { id, key, routingKey, headers: { ...userHeaders(headers) }, at };
}

function decoded(codec: Codec, bytes: Uint8Array): unknown {
  try {
    return decodeCopy(codec, bytes);
  } catch {
    return undefined;
  }
}

/** A queue and a topic of one name are kept apart. */
function nameOf(to: Address | AnyDestination): string {
  return to.kind === "queue" || to.kind === "topic" ? `${to.kind} ${to.name}` : `queue ${addressName(to)}`;
}

function sourceOf(where: string, destination: AnyDestination, subscription: string | undefined): string {
  checkDestination(where, destination);
  if (destination.kind === "queue") return destination.name;
  checkName("subscription", subscription);
  return addressName(workAddress(destination.name, subscription));
}

function checkDestination(where: string, destination: { readonly kind: string } | undefined): void {
  if (destination?.kind === "queue" || destination?.kind === "topic") return;
  throw new MessagingError("invalid", `${where} takes a queue, or a topic with a subscription`);
}

function add<Item>(map: Map<string, Item[]>, name: string, item: Item): void {
  const list = map.get(name);
  if (list === undefined) map.set(name, [item]);
  else list.push(item);
}
