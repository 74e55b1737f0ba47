import type { Adapter, OutgoingMessage } from "../adapter.ts";
import { type Address, describeAddress } from "../address.ts";
import type { Receipt } from "../broker.ts";
import type { Clock, Random } from "../clock.ts";
import { Deadlines } from "../deadlines.ts";
import { MessagingError } from "../errors.ts";
import { Fifo } from "../fifo.ts";
import type { PublishingOptions } from "../options.ts";
import { Batcher, PendingSend, Route } from "./publish-queue.ts";

const DEFAULT_MAX_MESSAGES = 10_000;
const DEFAULT_MAX_BYTES = 64 * 1024 * 1024;
export const DEFAULT_SEND_MS = 30_000;
/** How many answered sends may stay in the list of waiting ones. */
const SPARE = 64;

/**
 * The publisher engine: a buffer, bounded in messages and bytes, before one batcher per address. A message counts in it
 * until the adapter has reported on it, even if a deadline answered its caller before: so memory is bounded.
 */
export class PublisherEngine {
  readonly #adapter: Adapter;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #deadlines: Deadlines;
  readonly #routes = new Map<string, Route>();
  readonly #waiting = new Fifo<PendingSend>();
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
  #connected = false;
  #blocked = false;
  #idle: (() => void)[] = [];
  #life = 0;

  constructor(adapter: Adapter, options: PublishingOptions, clock: Clock, random: Random) {
    this.#adapter = adapter;
    this.#clock = clock;
    this.#random = random;
    this.#deadlines = new Deadlines(clock);
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
      this.#routes.set(name, route);
    }
    return route;
  }

  /** Sends for a caller. A full buffer makes it wait or rejects with `overloaded`, as the options say. */
  send(route: Route, message: OutgoingMessage, timeoutMs = this.timeoutMs): Promise<Receipt> {
    const room = this.#waiters === 0 && this.#hasRoom(message.size);
    if (!room && this.#whenFull === "fail") return Promise.reject(this.#overloaded(route.address));
    return this.#accept(route, message, timeoutMs, room);
  }

  /**
   * Sends the engine's own copy of an in-flight message. It never waits for room: the consumer's prefetch bounds such
   * copies, and busy publishers must not stop consumers.
   */
  sendCopy(route: Route, message: OutgoingMessage): Promise<Receipt> {
    return this.#accept(route, message, this.timeoutMs, true);
  }

  #accept(route: Route, message: OutgoingMessage, timeoutMs: number, room: boolean): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const send = new PendingSend(route, message, this.#deadlines, this.#abandoned, () => this.#lost, resolve, reject);
      this.#deadlines.set(send, timeoutMs);
      if (room) {
        this.#admit(send);
      } else {
        this.#waiting.push(send);
        this.#waiters++;
      }
    });
  }

  #admit(send: PendingSend): void {
    send.admitted = true;
    this.#messages++;
    this.#bytes += send.message.size;
    const { route } = send;
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

  #release(send: PendingSend): void {
    this.#messages--;
    this.#bytes -= send.message.size;
    for (;;) {
      const next = this.#waiting.peek();
      if (next === undefined) break;
      if (!next.answered) {
        if (!this.#hasRoom(next.message.size)) break;
        this.#waiters--;
        this.#admit(next);
      }
      this.#waiting.shift();
    }
    this.#checkIdle();
  }

  /** A send was answered while the adapter did not have it. */
  #abandoned = (send: PendingSend): void => {
    if (send.admitted) {
      send.route.batcher?.prune();
      this.#release(send);
      return;
    }
    this.#waiters--;
    while (this.#waiting.peek()?.answered) this.#waiting.shift();
    // Behind one with a long deadline, many expired ones must not pile up.
    if (this.#waiting.size > 2 * this.#waiters + SPARE) {
      const kept = [...this.#waiting].filter((other) => !other.answered);
      this.#waiting.clear();
      this.#waiting.putBack(kept);
    }
    this.#checkIdle();
  };

  #overloaded(address: Address): MessagingError {
    return new MessagingError(
      "overloaded",
      `${describeAddress(address)}: the publish buffer is full with ${this.#messages} messages of ${this.#bytes} bytes. Send slower, raise publish.maxMessages or publish.maxBytes, or let sends wait with publish.whenFull "wait"`,
    );
  }

  #checkIdle(): void {
    if (this.#messages > 0 || this.#waiters > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  /** Resolves when every accepted message was answered and reported on, or after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#messages === 0 && this.#waiters === 0) return;
    await new Promise<void>((resolve) => {
      const timer = this.#clock.schedule(resolve, timeoutMs);
      this.#idle.push(() => {
        this.#clock.cancel(timer);
        resolve();
      });
    });
  }

  /** Answers everything that is left, as `unconfirmed` or `closed`, and cancels every timer. */
  close(): void {
    this.#connected = false;
    // The next connection reports by itself if it is blocked.
    this.#blocked = false;
    for (const send of this.#deadlines.items()) (send as PendingSend).giveUp("the broker was stopped", "closed");
    this.#deadlines.clear();
    this.#life++;
    for (const route of this.#routes.values()) {
      route.batcher?.close();
      route.batcher = undefined;
    }
    this.#waiting.clear();
    this.#messages = 0;
    this.#bytes = 0;
    this.#waiters = 0;
    this.#checkIdle();
  }
}
