import { setTimeout as sleep } from "node:timers/promises";
import { type DeadLetters, type DeadLettersOptions, deadLetters } from "anybroker/dead-letters";
import type { Adapter, OutgoingMessage } from "../../../core/adapter.ts";
import type { WorkAddress } from "../../../core/address.ts";
import type { Broker } from "../../../core/broker.ts";
import { internalsOf } from "../../../core/broker-internals.ts";
import { createBroker } from "../../../core/create-broker.ts";
import type { MessageHeaders } from "../../../core/delivery.ts";
import { type Queue, queue } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import type { BrokerOptions } from "../../../core/options.ts";
import { HEADER, headerBytes } from "../../../core/system-headers.ts";
import { type RecordedSend, recorded } from "./adapters.ts";

/** What a suite needs to know of a broker. */
export interface Grounds {
  readonly name: string;
  adapter(): Adapter;
  /** What names must begin with, for it is a broker that others use too. */
  readonly namePrefix?: string;
  /** How long a lease or a membership outlives its process, in milliseconds. */
  readonly sessionMs?: number;
  /** Why there are no topics. */
  readonly withoutTopics?: string;
}

/** The body of what is buried here. */
export interface Order {
  readonly n: number;
}

/** One dead letter to make. */
export interface Burial {
  readonly id: string;
  readonly n?: number;
  readonly key?: string;
  readonly headers?: MessageHeaders;
  readonly error?: string;
  readonly errorClass?: string;
  readonly reason?: string;
  /** Milliseconds since 1970. */
  readonly failedAt?: number;
  readonly replays?: number;
  readonly body?: string;
}

const PATIENCE_MS = 120_000;
const WAIT_MS = 240_000;

/** A broker object on the grounds of a suite, with a queue of its own and what was sent to it on record. */
export class Graveyard {
  readonly orders: Queue<Order>;
  readonly broker: Broker;
  readonly sends: readonly RecordedSend[];
  readonly events: readonly BrokerEvent[];
  readonly dead: DeadLetters;

  private constructor(grounds: Grounds, orders: Queue<Order>, options: BrokerOptions, dead: DeadLettersOptions) {
    const { adapter, sends } = recorded(grounds.adapter());
    const events: BrokerEvent[] = [];
    this.orders = orders;
    this.sends = sends;
    this.events = events;
    this.broker = createBroker(adapter, {
      destinations: [orders],
      ...options,
      onEvent: (event) => void events.push(event),
    });
    this.dead = deadLetters(this.broker, orders, { patienceMs: PATIENCE_MS, ...dead });
  }

  /** Starts; without a queue given, on a fresh one. */
  static async open(
    grounds: Grounds,
    given: { readonly orders?: Queue<Order>; readonly broker?: BrokerOptions; readonly dead?: DeadLettersOptions } = {},
  ): Promise<Graveyard> {
    const orders = given.orders ?? queue<Order>(freshName(grounds, "orders"));
    const yard = new Graveyard(grounds, orders, given.broker ?? {}, given.dead ?? {});
    await yard.broker.start();
    return yard;
  }

  get address(): WorkAddress {
    return { kind: "queue", name: this.orders.name };
  }

  /** Puts dead letters there as the engine would, each confirmed before the next where they are few. */
  async bury(burials: readonly Burial[], of: WorkAddress = this.address): Promise<void> {
    const { sendCopy } = internalsOf(this.broker, "bury");
    await Promise.all(burials.map((burial) => sendCopy({ kind: "dead-letters", of }, false, deadMessage(burial))));
  }

  /** What was sent to the queue itself. */
  sentBack(to: string = this.orders.name): readonly OutgoingMessage[] {
    return this.sends.filter(({ name }) => name === to).map(({ message }) => message);
  }

  /** Waits until it holds. */
  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    return until(what, condition);
  }

  stop(): Promise<void> {
    return this.broker.stop({ timeoutMs: 5_000 });
  }
}

export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + WAIT_MS;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${WAIT_MS} ms in vain for ${what}`);
    await sleep(20);
  }
}

/** A name that nobody else has. */
export function freshName({ namePrefix = "" }: Grounds, name: string): string {
  return `${namePrefix}${name}-${Math.random().toString(36).slice(2, 10)}`;
}

/** Burials with ids from a prefix, a second apart, oldest first. */
export function burials(count: number, prefix = "m", given: Partial<Burial> = {}): readonly Burial[] {
  const begin = Date.UTC(2026, 0, 1);
  return Array.from({ length: count }, (_, n) => ({
    id: `${prefix}-${String(n).padStart(5, "0")}`,
    n,
    failedAt: begin + n * 1_000,
    ...given,
  }));
}

function deadMessage(burial: Burial): OutgoingMessage {
  const { id, n = 0, key, error = `order ${n} was refused`, errorClass = "TypeError", reason = "attempts" } = burial;
  const failedAt = new Date(burial.failedAt ?? Date.now()).toISOString();
  const headers: MessageHeaders = Object.assign(Object.create(null), burial.headers, {
    [HEADER.deadReason]: reason,
    [HEADER.deadOrigin]: "as in a test",
    [HEADER.deadErrorClass]: errorClass,
    [HEADER.deadError]: error,
    [HEADER.deadAttempts]: "5",
    [HEADER.deadFirstAt]: failedAt,
    [HEADER.deadLastAt]: failedAt,
    ...(burial.replays === undefined ? {} : { [HEADER.replays]: String(burial.replays) }),
  });
  const body = Buffer.from(burial.body ?? JSON.stringify({ n }));
  return {
    id,
    key,
    routingKey: undefined,
    headers,
    body,
    contentType: "application/json",
    size: body.length + headerBytes(headers),
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
  };
}
