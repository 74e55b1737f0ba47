import type { Adapter, OutgoingMessage } from "../adapter.ts";
import { type Address, describeAddress } from "../address.ts";
import type { Receipt } from "../broker.ts";
import { type Clock, Conditions, type Random, type StopTime } from "../clock.ts";
import { Deadlines } from "../deadlines.ts";
import { MessagingError } from "../errors.ts";
import type { PublishingOptions } from "../options.ts";
import { Batcher, PendingSend, Route } from "./publish-queue.ts";

const DEFAULT_MAX_MESSAGES = 10_000;
const DEFAULT_MAX_BYTES = 64 * 1024 * 1024;
export const DEFAULT_SEND_MS = 30_000;
/** An address holds at most this many times what is free, if there are other addresses: alone, eight ninths. */
const SHARE = 8;
/** How many answered sends may stay in the list of waiting ones. */
const SPARE = 64;

/**
 * The publisher engine: a buffer, bounded in messages and bytes, before one batcher per address. A message counts in it
 * until the adapter has reported on it, even if a deadline answered its caller before: so memory is bounded. One address
 * never takes all of it from others: the dynamic threshold of Choudhury and Hahne (1998).
 */
export class PublisherEngine {
  readonly #adapter: Adapter;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #deadlines: Deadlines;
  readonly #routes = new Map<string, Route>();
  /** How many routes there are that callers send to. */
  #destinations = 0;
  /** Those with callers that wait for room, the first in turn first. */
  #queueing = new Set<Route>();
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  readonly #whenFull: "wait" | "fail";
  /** How long a send may take unless it says otherwise, in milliseconds. */
  readonly timeoutMs: number;
  /** Why there is no connection, where that is known. */
  #lost: MessagingError | undefined = undefined;
  #messages = 0;
  #bytes = 0;
  #waiters = 0;
  /** Whether one that waits is too large for what is free, so that none may pass it. */
  #isHeldUp = false;
  #connected = false;
  #blocked = false;
  /** Why nothing can be sent now; undefined while it is open. */
  #closed: string | undefined = undefined;
  readonly #conditions: Conditions;
  #life = 0;

  constructor(adapter: Adapter, options: PublishingOptions, clock: Clock, random: Random) {
    this.#adapter = adapter;
    this.#clock = clock;
    this.#random = random;
    this.#deadlines = new Deadlines(clock);
    this.#conditions = new Conditions(clock);
    this.#maxMessages = options.maxMessages ?? DEFAULT_MAX_MESSAGES;
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#whenFull = options.whenFull ?? "wait";
    this.timeoutMs = options.timeoutMs ?? DEFAULT_SEND_MS;
  }

  /** Messages accepted and not yet reported on. */
  get messages(): number {
    return this.#messages;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Callers waiting for room. */
  get waiting(): number {
    return this.#waiters;
  }

  /** Whether batchers may send. */
  #isOpen = (): boolean => this.#connected && !this.#blocked;

  /** Takes messages from now on. */
  open(connected: boolean): void {
    this.#closed = undefined;
    this.connected(connected);
  }

  /** Takes no more messages, for this reason. Accepted ones are still sent. */
  refuse(why: string): void {
    this.#closed = why;
  }

  /** Throws `closed` while it takes no messages. */
  requireOpen(): void {
    if (this.#closed === undefined) return;
    throw new MessagingError("closed", `the broker takes no messages: ${this.#closed}`);
  }

  /** Follows the adapter's connection. A new one ends every pause. */
  connected(connected: boolean, why?: MessagingError): void {
    this.#lost = connected ? undefined : why;
    this.#connected = connected;
    if (!connected) this.#blocked = false;
    this.#wake();
  }

  /** Follows the broker's refusal to take messages. */
  blocked(blocked: boolean): void {
    this.#blocked = blocked;
    this.#wake();
  }

  #wake(): void {
    if (this.#isOpen()) for (const route of this.#routes.values()) route.batcher?.wake();
  }

  /** The route to an address: always the same one. */
  route(address: Address, ordered: boolean): Route {
    const name = describeAddress(address);
    let route = this.#routes.get(name);
    if (route === undefined) {
      route = new Route(address, ordered);
      // Nothing waits for room that goes to dead letters.
      if (address.kind !== "dead-letters") this.#destinations++;
      this.#routes.set(name, route);
    }
    return route;
  }

  /** Sends for a caller. A full buffer makes it wait or rejects with `overloaded`, as the options say. */
  send(
    route: Route,
    message: OutgoingMessage,
    timeoutMs = this.timeoutMs,
    signal: AbortSignal | undefined = undefined,
  ): Promise<Receipt> {
    const room =
      route.waiters === 0 && !this.#isHeldUp && this.#hasRoom(message.size) && this.#hasShare(route, message.size);
    if (!room && this.#whenFull === "fail") return Promise.reject(this.#overloaded(route));
    return this.#accept(route, message, timeoutMs, room, signal);
  }

  /**
   * Sends the engine's own copy of an in-flight message. It never waits for room: the consumer's prefetch bounds such
   * copies, and busy publishers must not stop consumers.
   */
  sendCopy(route: Route, message: OutgoingMessage): Promise<Receipt> {
    return this.#accept(route, message, this.timeoutMs, true, undefined);
  }

  #accept(
    route: Route,
    message: OutgoingMessage,
    timeoutMs: number,
    room: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      this.requireOpen();
      const whyDown = (): MessagingError | undefined => this.#lost;
      const send = new PendingSend(route, message, this.#deadlines, this.#abandoned, whyDown, resolve, reject, signal);
      this.#deadlines.set(send, timeoutMs);
      if (room) {
        this.#admit(send);
      } else {
        this.#wait(send);
      }
    });
  }

  #wait(send: PendingSend): void {
    const { route } = send;
    route.waiting.push(send);
    route.waiters++;
    this.#waiters++;
    this.#queueing.add(route);
    this.#isHeldUp ||= !this.#hasRoom(send.message.size);
  }

  #admit(send: PendingSend): void {
    send.admitted = true;
    const { route, message } = send;
    this.#messages++;
    this.#bytes += message.size;
    route.messages++;
    route.bytes += message.size;
    route.batcher ??= this.#batcher(route);
    route.batcher.push(send);
  }

  #batcher(route: Route): Batcher {
    const life = this.#life;
    // A late report of a closed connection must not count for the next one.
    const settled = (send: PendingSend): void => {
      if (this.#life === life) this.#release(send);
    };
    return new Batcher(this.#adapter, route, this.#isOpen, this.#clock, this.#random, settled);
  }

  #hasRoom(size: number): boolean {
    if (this.#messages === 0) return true;
    return this.#messages < this.#maxMessages && this.#bytes + size <= this.#maxBytes;
  }

  /**
   * Whether a route may hold so much more. One whose broker does not confirm must not take the room of all others: where there
   * are others, it has at most a multiple of what it leaves free.
   */
  #hasShare(route: Route, size: number): boolean {
    if (route.messages === 0 || this.#destinations === 1) return true;
    const freeMessages = this.#maxMessages - this.#messages;
    const leftBytes = this.#maxBytes - this.#bytes - size;
    return route.messages < SHARE * freeMessages && route.bytes + size <= SHARE * leftBytes;
  }

  #release(send: PendingSend): void {
    const { route, message } = send;
    this.#messages--;
    this.#bytes -= message.size;
    route.messages--;
    route.bytes -= message.size;
    this.#admitWaiting();
    this.#conditions.check();
  }

  /** In turns, one of each address; one that has its share is passed over, and one that is too large for now is not. */
  #admitWaiting(): void {
    this.#isHeldUp = false;
    const passed = new Set<Route>();
    for (const route of this.#queueing) {
      this.#queueing.delete(route);
      while (route.waiting.peek()?.answered) route.waiting.shift();
      const next = route.waiting.peek();
      if (next === undefined) continue;
      if (!this.#hasRoom(next.message.size)) {
        this.#isHeldUp = true;
        passed.add(route);
        break;
      }
      if (!this.#hasShare(route, next.message.size)) {
        passed.add(route);
        continue;
      }
      route.waiting.shift();
      route.waiters--;
      this.#waiters--;
      // Behind all others: the loop comes by again.
      this.#queueing.add(route);
      this.#admit(next);
    }
    // What was passed over is first again.
    if (passed.size > 0) this.#queueing = new Set([...passed, ...this.#queueing]);
  }

  /** A send was answered while the adapter did not have it. */
  #abandoned = (send: PendingSend): void => {
    const { route } = send;
    if (send.admitted) {
      route.batcher?.prune();
      this.#release(send);
      return;
    }
    this.#waiters--;
    route.waiters--;
    while (route.waiting.peek()?.answered) route.waiting.shift();
    // Behind one that waits long, many that gave up soon must not pile up.
    if (route.waiting.size > 2 * route.waiters + SPARE) {
      const kept = [...route.waiting].filter((other) => !other.answered);
      route.waiting.clear();
      route.waiting.putBack(kept);
    }
    // It may have held up others.
    this.#admitWaiting();
    this.#conditions.check();
  };

  #overloaded({ address, messages }: Route): MessagingError {
    const full = `the publish buffer is full with ${this.#messages} messages of ${this.#bytes} bytes, ${messages} of them for it`;
    return new MessagingError(
      "overloaded",
      `${describeAddress(address)}: ${full}. Send slower, raise publish.maxMessages or publish.maxBytes, or let sends wait with publish.whenFull "wait"`,
    );
  }

  /** Resolves when every accepted message was answered and reported on, or when the time is over. */
  drain(time: StopTime): Promise<void> {
    return this.#conditions.until(() => this.#messages === 0 && this.#waiters === 0, time);
  }

  /** Answers everything that is left, as `unconfirmed` or `closed`, cancels every timer, and takes no more messages. */
  close(why: string): void {
    this.#closed = why;
    this.#connected = false;
    // The next connection reports by itself if it is blocked.
    this.#blocked = false;
    for (const send of this.#deadlines.items()) (send as PendingSend).giveUp("the broker was stopped", "closed");
    this.#deadlines.clear();
    this.#life++;
    for (const route of this.#routes.values()) {
      route.batcher?.close();
      route.batcher = undefined;
      route.messages = 0;
      route.bytes = 0;
      route.waiters = 0;
      route.waiting.clear();
    }
    this.#queueing.clear();
    this.#isHeldUp = false;
    this.#messages = 0;
    this.#bytes = 0;
    this.#waiters = 0;
    this.#conditions.check();
  }
}
