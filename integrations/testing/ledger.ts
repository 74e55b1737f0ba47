import type { IncomingMessage, OutgoingMessage, SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import {
  type Address,
  addressName,
  type Source,
  type TopicAddress,
  type WorkAddress,
  workAddress,
} from "../../core/address.ts";
import { checkName } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import { type Codec, jsonCodec } from "../../core/codec.ts";
import {
  type Delivery,
  type HandlerResult,
  type MessageHeaders,
  type Middleware,
  outcomeKind,
} from "../../core/delivery.ts";
import { type Queue, routingMatches, type Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { decodeCopy } from "../../core/publish/encode-message.ts";
import { HEADER, numberHeader, userHeaders } from "../../core/system-headers.ts";
import type { Failures } from "./failures.ts";

/** The common part of all records of a kit. */
export interface RecordedMessage {
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** Without the engine's headers. */
  readonly headers: MessageHeaders;
  /** The time of the record, by the kit's clock. */
  readonly at: Date;
}

/** A message that the application sent and the broker confirmed. */
export interface SentMessage<Body> extends RecordedMessage {
  /** The body as decoded from its bytes, a new value at each call. */
  readonly body: Body;
  /** Undefined only for a replayed foreign message without one. */
  readonly contentType: string | undefined;
  readonly delayMs: number;
  readonly priority: number;
  /** The time to live in milliseconds since the send. */
  readonly ttlMs: number | undefined;
}

/** A message whose handler succeeded and that is settled. */
export interface ConsumedMessage<Body> extends RecordedMessage {
  /** The value that the handler got, with the handler's changes. */
  readonly body: Body;
  /** 1 if the first attempt succeeded. */
  readonly attempt: number;
  readonly firstPublishedAt: Date;
}

/** A message in the dead letters. */
export interface DeadLetterRecord extends RecordedMessage {
  /** The queue or subscription: `orders`, `order.placed..billing`. */
  readonly source: string;
  /** See `DeadLetterReason`. */
  readonly reason: string;
  readonly attempts: number;
  readonly errorClass: string;
  readonly error: string;
  /** The decoded body; undefined if it cannot be decoded. */
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

/** The sent, consumed and dead-lettered messages of a kit. */
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

  /** A dead letter was removed by a replay or a discard. */
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

/** Distinguishes a queue and a topic of the same name. */
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

/** A message that is or will be on the broker, for one source. */
interface Expected {
  readonly work: WorkAddress;
  readonly id: string;
  /** When it can be delivered, in monotonic milliseconds. */
  readonly dueAt: number;
  /** When it expires, in monotonic milliseconds. */
  readonly expiresAt: number;
}

/** A delivery in flight. */
export interface InFlightDelivery {
  readonly source: Source;
  readonly id: string;
  readonly body: Uint8Array;
  /** Whether it may be delivered early and forwarded. */
  readonly delayed: boolean;
}

/** The messages that are sent and not settled, and the deliveries in flight, over all adapters of a kit. */
export class Ledger {
  readonly #clock: Clock;
  readonly #expected = new Map<string, Expected[]>();
  readonly #inFlight = new Map<string, Set<InFlightDelivery>>();
  readonly #subscriptions = new Map<string, SubscriptionDeclaration>();
  #version = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Changes with every event. */
  get version(): number {
    return this.#version;
  }

  declared({ subscriptions }: Topology): void {
    for (const declaration of subscriptions) this.#subscriptions.set(addressName(declaration.address), declaration);
  }

  /** A message is sent. Returns the expected deliveries; pass them to `takenBack` if the broker does not store it. */
  handedOver(to: Address, message: OutgoingMessage): readonly Expected[] {
    const { id, delayMs, ttlMs = Number.POSITIVE_INFINITY } = message;
    const now = this.#clock.monotonic();
    const expected = this.#receivers(to, message).map((work) => {
      return { work, id, dueAt: now + delayMs, expiresAt: now + ttlMs };
    });
    for (const one of expected) listIn(this.#expected, keyOf(one.work, id)).push(one);
    this.#version++;
    return expected;
  }

  #receivers(to: Address, { routingKey }: OutgoingMessage): readonly WorkAddress[] {
    if (to.kind === "dead-letters") return [];
    if (to.kind !== "topic") return [workOf(to)];
    return [...this.#subscriptions.values()]
      .filter(({ address, filter = "#" }) => address.topic === to.name && routingMatches(filter, routingKey))
      .map(({ address }) => address);
  }

  takenBack(expected: readonly Expected[]): void {
    for (const one of expected) this.#forget(one);
    this.#version++;
  }

  #forget(one: Expected): void {
    const key = keyOf(one.work, one.id);
    const left = this.#expected.get(key)?.filter((other) => other !== one) ?? [];
    if (left.length > 0) this.#expected.set(key, left);
    else this.#expected.delete(key);
  }

  delivered(source: Source, { id, body, headers }: IncomingMessage): InFlightDelivery {
    const delivery = { source, id, body, delayed: headers[HEADER.dueAt] !== undefined };
    const key = keyOf(workOf(source), id);
    const others = this.#inFlight.get(key);
    if (others === undefined) this.#inFlight.set(key, new Set([delivery]));
    else others.add(delivery);
    this.#version++;
    return delivery;
  }

  /** A delivery ended: `done` if it is settled for good, otherwise it is delivered again. */
  ended(delivery: InFlightDelivery, done: boolean): void {
    const work = workOf(delivery.source);
    const key = keyOf(work, delivery.id);
    const others = this.#inFlight.get(key);
    others?.delete(delivery);
    if (others?.size === 0) this.#inFlight.delete(key);
    const [first] = this.#expected.get(key) ?? [];
    if (done && delivery.source.kind !== "dead-letters" && first !== undefined) this.#forget(first);
    this.#version++;
  }

  /**
   * Whether a message is the engine's copy of a delivery in flight, for a retry or the dead letters, and not sent by the
   * application: it has the same bytes object, and is marked as a copy or was delayed.
   */
  isCopy(to: Address, { id, body, headers }: OutgoingMessage): boolean {
    if (to.kind === "topic") return false;
    const marked = to.kind === "dead-letters" || headers[HEADER.attempts] !== undefined;
    for (const delivery of this.#inFlight.get(keyOf(workOf(to), id)) ?? []) {
      if (delivery.body === body && delivery.source.kind !== "dead-letters" && (marked || delivery.delayed))
        return true;
    }
    return false;
  }

  /** All deliveries in flight. */
  inFlight(): readonly InFlightDelivery[] {
    return [...this.#inFlight.values()].flatMap((deliveries) => [...deliveries]);
  }

  /** All messages that were sent here, are not in flight and did not expire. */
  waiting(): readonly Expected[] {
    const now = this.#clock.monotonic();
    return [...this.#expected].flatMap(([key, expected]) =>
      expected.slice(this.#inFlight.get(key)?.size ?? 0).filter(({ expiresAt }) => expiresAt > now),
    );
  }
}

function keyOf(work: WorkAddress, id: string): string {
  return `${addressName(work)} ${id}`;
}

function listIn<Item>(map: Map<string, Item[]>, key: string): Item[] {
  let list = map.get(key);
  if (list === undefined) {
    list = [];
    map.set(key, list);
  }
  return list;
}

type Rename = <Kind extends Address>(address: Kind) => Kind;

/** Adds a prefix to the names of addresses. */
export function renaming(prefix: string): Rename {
  if (prefix === "") return (address) => address;
  const rename = (address: Address): Address => {
    switch (address.kind) {
      case "queue":
      case "topic":
        return { ...address, name: prefix + address.name };
      case "subscription":
        return { ...address, topic: prefix + address.topic };
      default:
        return { ...address, of: rename(address.of) as WorkAddress };
    }
  };
  return rename as Rename;
}

/** Renames the addresses of a topology. */
export function renamedTopology(topology: Topology, rename: Rename): Topology {
  const renamed = <Declared extends { readonly address: Address }>(declared: Declared): Declared => ({
    ...declared,
    address: rename(declared.address),
  });
  return {
    mode: topology.mode,
    queues: topology.queues.map(renamed),
    topics: topology.topics.map(renamed),
    subscriptions: topology.subscriptions.map(renamed),
  };
}

/** The queue or subscription that an address belongs to. */
export function workOf(address: Exclude<Address, TopicAddress>): WorkAddress {
  return address.kind === "dead-letters" || address.kind === "quarantine" ? address.of : address;
}

/** A running handler. */
interface RunningHandler {
  readonly source: string;
  readonly id: string;
  readonly attempt: number;
}

/** The arguments of a handler that succeeded. */
export interface Success {
  readonly body: unknown;
  readonly delivery: Delivery;
}

/** Observes handlers: which run, and which succeeded; and injects failures. */
export class HandlerWatch {
  readonly #failures: Failures;
  readonly #running = new Set<RunningHandler>();
  /** By source and id, until settled. */
  readonly #successes = new Map<string, Success>();

  constructor(failures: Failures) {
    this.#failures = failures;
  }

  get running(): readonly RunningHandler[] {
    return [...this.#running];
  }

  readonly middleware: Middleware =
    (next) =>
    async (body, delivery): Promise<HandlerResult> => {
      const { destination, subscription, id, attempt } = delivery;
      const source = addressName(workAddress(destination, subscription));
      const running = { source, id, attempt };
      const failure = this.#failures.ofHandling(destination, subscription);
      this.#running.add(running);
      try {
        if (failure !== undefined && failure.when !== "after") return fail(failure.with);
        const result = await next(body, delivery);
        if (outcomeKind(result) !== undefined) return result;
        if (failure !== undefined) return fail(failure.with);
        this.#successes.set(`${source} ${id}`, { body, delivery });
        return result;
      } finally {
        this.#running.delete(running);
      }
    };

  /** Removes and returns the success of a delivery that is settled. */
  take(source: string, id: string): Success | undefined {
    const key = `${source} ${id}`;
    const success = this.#successes.get(key);
    this.#successes.delete(key);
    return success;
  }
}

function fail(chosen: unknown): HandlerResult {
  if (outcomeKind(chosen) !== undefined) return chosen as HandlerResult;
  throw chosen === undefined ? new Error("this attempt failed because of failNext()") : chosen;
}
