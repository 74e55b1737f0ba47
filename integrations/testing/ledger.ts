import {
  type Address,
  addressName,
  type Clock,
  HEADER,
  type IncomingMessage,
  type OutgoingMessage,
  type Source,
  type SubscriptionDeclaration,
  type Topology,
  type WorkAddress,
} from "../../core/index.ts";
import { routingMatches } from "../../core/routing.ts";
import { workOf } from "./addresses.ts";

/** A message that stands, or is about to, where somebody is to take it. */
export interface Expected {
  readonly work: WorkAddress;
  readonly id: string;
  /** When it can be delivered, in monotonic time. */
  readonly dueAt: number;
  /** When the broker may let it expire by itself, in monotonic time. */
  readonly expiresAt: number;
}

/** A delivery that is not settled yet. */
export interface Held {
  readonly source: Source;
  readonly id: string;
  readonly body: Uint8Array;
  /** Whether it may have come before its time, and be sent on. */
  readonly delayed: boolean;
}

/** What was sent and is not settled, and what is held, over all adapters of a kit. */
export class Ledger {
  readonly #clock: Clock;
  readonly #expected = new Map<string, Expected[]>();
  readonly #held = new Map<string, Set<Held>>();
  readonly #subscriptions = new Map<string, SubscriptionDeclaration>();
  #version = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Another number whenever something happened. */
  get version(): number {
    return this.#version;
  }

  declared({ subscriptions }: Topology): void {
    for (const declaration of subscriptions) this.#subscriptions.set(addressName(declaration.address), declaration);
  }

  /** A message is handed to the broker. Returns what it makes expect; take it back if the broker does not store it. */
  handedOver(to: Address, message: OutgoingMessage): readonly Expected[] {
    const { id, delayMs, ttlMs = Number.POSITIVE_INFINITY } = message;
    const now = this.#clock.monotonic();
    const expected = this.#takers(to, message).map((work) => {
      return { work, id, dueAt: now + delayMs, expiresAt: now + ttlMs };
    });
    for (const one of expected) listIn(this.#expected, keyOf(one.work, id)).push(one);
    this.#version++;
    return expected;
  }

  #takers(to: Address, { routingKey }: OutgoingMessage): readonly WorkAddress[] {
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

  delivered(source: Source, { id, body, headers }: IncomingMessage): Held {
    const held = { source, id, body, delayed: headers[HEADER.dueAt] !== undefined };
    const key = keyOf(workOf(source), id);
    const others = this.#held.get(key);
    if (others === undefined) this.#held.set(key, new Set([held]));
    else others.add(held);
    this.#version++;
    return held;
  }

  /** It is ours no more: settled for good, or to be delivered again. */
  left(held: Held, done: boolean): void {
    const work = workOf(held.source);
    const key = keyOf(work, held.id);
    const others = this.#held.get(key);
    others?.delete(held);
    if (others?.size === 0) this.#held.delete(key);
    const [first] = this.#expected.get(key) ?? [];
    if (done && held.source.kind !== "dead-letters" && first !== undefined) this.#forget(first);
    this.#version++;
  }

  /**
   * Whether a message is the engine's own copy of one that is held (to be retried or dead-lettered), and not
   * sent by the application: it has the very bytes, and is marked or goes where such copies are and do.
   */
  isCopy(to: Address, { id, body, headers }: OutgoingMessage): boolean {
    if (to.kind === "topic") return false;
    const marked = to.kind === "dead-letters" || headers[HEADER.attempts] !== undefined;
    for (const held of this.#held.get(keyOf(workOf(to), id)) ?? []) {
      if (held.body === body && held.source.kind !== "dead-letters" && (marked || held.delayed)) return true;
    }
    return false;
  }

  /** All that is held. */
  held(): readonly Held[] {
    return [...this.#held.values()].flatMap((held) => [...held]);
  }

  /** All that stands and is not held, as far as it was sent here and has not expired. */
  waiting(): readonly Expected[] {
    const now = this.#clock.monotonic();
    return [...this.#expected].flatMap(([key, expected]) =>
      expected.slice(this.#held.get(key)?.size ?? 0).filter(({ expiresAt }) => expiresAt > now),
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
