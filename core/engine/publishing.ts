import type { Adapter, OutgoingMessage } from "../adapter.ts";
import { type Address, describeAddress } from "../address.ts";
import type { Receipt } from "../broker.ts";
import type { Clock, Random } from "../clock.ts";
import { MessagingError } from "../errors.ts";
import type { PublishingOptions } from "../options.ts";
import { Batcher, type Gate } from "./batcher.ts";
import { Deadlines } from "./deadlines.ts";
import { Fifo } from "./fifo.ts";
import { PendingSend, type SendObserver } from "./pending-send.ts";

const DEFAULT_MAX_MESSAGES = 10_000;
const DEFAULT_MAX_BYTES = 64 * 1024 * 1024;
export const DEFAULT_SEND_MS = 30_000;
/** So many answered callers may stay in the list beyond those that wait. */
const SPARE = 64;

/** The way to one address; kept by callers so that sending looks nothing up. */
export class Route {
  readonly address: Address;
  readonly ordered: boolean;
  /** Made when the first message goes; gone with the connection it was for. */
  batcher: Batcher | undefined = undefined;

  constructor(address: Address, ordered: boolean) {
    this.address = address;
    this.ordered = ordered;
  }
}

/**
 * The publisher engine: a buffer bounded in messages and bytes before one batcher per address. What the buffer holds is
 * counted from acceptance until the adapter has reported on it, even if its caller was answered by the deadline before:
 * memory is bounded by what is really kept.
 */
export class Publishing implements SendObserver, Gate {
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
  lost: MessagingError | undefined = undefined;
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

  /** Whether batchers may hand over. */
  get open(): boolean {
    return this.#connected && !this.#blocked;
  }

  /** Follows the adapter's connection; a new one ends every pause. */
  connected(connected: boolean, why?: MessagingError): void {
    this.lost = connected ? undefined : why;
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
    if (this.open) for (const route of this.#routes.values()) route.batcher?.wake();
  }

  /** The one way to an address. */
  route(address: Address, ordered: boolean): Route {
    const name = describeAddress(address);
    let route = this.#routes.get(name);
    if (route === undefined) {
      route = new Route(address, ordered);
      this.#routes.set(name, route);
    }
    return route;
  }

  /** Sends for a caller, who waits for room or is refused, as the options say. */
  send(route: Route, message: OutgoingMessage, timeoutMs = this.timeoutMs): Promise<Receipt> {
    const room = this.#waiters === 0 && this.#hasRoom(message.size);
    if (!room && this.#whenFull === "fail") return Promise.reject(this.#overloaded(route.address));
    return this.#accept(route, message, timeoutMs, room);
  }

  /**
   * Sends the engine's own copy of a message that a consumer holds. It never waits for room: the consumer's window
   * bounds such copies, and consumers must not stand still because publishers are many.
   */
  sendCopy(route: Route, message: OutgoingMessage): Promise<Receipt> {
    return this.#accept(route, message, this.timeoutMs, true);
  }

  #accept(route: Route, message: OutgoingMessage, timeoutMs: number, room: boolean): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const send = new PendingSend(route, message, this.#deadlines, this, resolve, reject);
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
    // What a closed connection reports late must not count against the next one.
    const settled = (send: PendingSend): void => {
      if (this.#life === life) this.#release(send);
    };
    return new Batcher(this.#adapter, route.address, route.ordered, this, this.#clock, this.#random, settled);
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
    if (this.#messages === 0 && this.#waiters === 0) this.#becomeIdle();
  }

  abandoned(send: PendingSend): void {
    if (send.admitted) {
      send.route.batcher?.prune();
      this.#release(send);
      return;
    }
    this.#waiters--;
    while (this.#waiting.peek()?.answered) this.#waiting.shift();
    // Behind one that waits long, many that gave up soon must not pile up.
    if (this.#waiting.size > 2 * this.#waiters + SPARE) {
      const kept = [...this.#waiting].filter((other) => !other.answered);
      this.#waiting.clear();
      this.#waiting.putBack(kept);
    }
    if (this.#messages === 0 && this.#waiters === 0) this.#becomeIdle();
  }

  #overloaded(address: Address): MessagingError {
    return new MessagingError(
      "overloaded",
      `${describeAddress(address)}: the publish buffer is full with ${this.#messages} messages of ${this.#bytes} bytes. Send slower, raise publish.maxMessages or publish.maxBytes, or let sends wait with publish.whenFull "wait"`,
    );
  }

  #becomeIdle(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  /** Resolves when everything accepted has been answered and let go by the adapter, or `timeoutMs` has passed. */
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

  /** Answers everything that is left with what is known of it, and lets go of every timer. */
  close(): void {
    this.#connected = false;
    // The next connection is a new one: it says by itself if it is blocked.
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
    this.#becomeIdle();
  }
}
