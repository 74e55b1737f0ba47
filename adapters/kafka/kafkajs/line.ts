import type { MessagingError } from "../../../core/errors.ts";
import type { BrokerSocket } from "./broker-socket.ts";
import type { Address } from "./errors.ts";
import type { Exchange } from "./exchange.ts";

/** From so many requests under way on every socket on another one is opened, where some count for many. */
const BUSY = 512;

/** A node by its id, or an address at which some broker listens. */
export type Place = number | Address;

/** Opens a socket; `onEnd` is called when it is of no more use. */
export type OpenSocket = (to: Place, onEnd: () => void) => BrokerSocket;

/** The sockets to one place that serve one purpose: one, and more while all of them are busy. */
export class Line {
  /** Where the next socket goes to. */
  to: Place;
  readonly #most: number;
  readonly #open: OpenSocket;
  readonly #sockets = new Set<BrokerSocket>();

  /** Of `most` sockets at a time, beside those that only wait for their last answers. */
  constructor(to: Place, most: number, open: OpenSocket) {
    this.to = to;
    this.#most = most;
    this.#open = open;
  }

  get isEmpty(): boolean {
    return this.#sockets.size === 0;
  }

  get isOpen(): boolean {
    return this.#serving.some(({ isOpen }) => isOpen);
  }

  /**
   * The socket for a question that counts for so many: whatever is quick goes on the first that has room, so that the others
   * fall idle, and what is slow on the one with the least under way. Another is opened where none has room.
   */
  pick(load: number): BrokerSocket {
    const serving = this.#serving;
    const [best] = load === 1 ? serving.filter((socket) => socket.load < BUSY) : byLoad(serving);
    if (best !== undefined && best.load < BUSY) return best;
    if (serving.length >= this.#most) return byLoad(serving)[0] as BrokerSocket;
    const socket: BrokerSocket = this.#open(this.to, () => this.#sockets.delete(socket));
    this.#sockets.add(socket);
    return socket;
  }

  /** Closes those on which nothing was under way for so long, but for so many. */
  spare(keep: number, idleMs: number): void {
    const serving = this.#serving;
    const idle = serving.filter((socket) => socket.idleMs >= idleMs);
    for (const socket of idle.slice(Math.max(0, keep - (serving.length - idle.length)))) socket.retire();
  }

  /** Closes all. What is under way rejects with `error`. */
  async end(error: MessagingError): Promise<void> {
    await Promise.all([...this.#sockets].map((socket) => socket.end(error)));
  }

  get #serving(): readonly BrokerSocket[] {
    return [...this.#sockets].filter(({ isRetired }) => !isRetired);
  }
}

function byLoad(sockets: readonly BrokerSocket[]): readonly BrokerSocket[] {
  return [...sockets].sort((one, other) => one.load - other.load);
}

/** For how many of the quickest questions one counts. What the node may hold back keeps all others off its socket. */
export function loadOf({ waitMs, load = 1 }: Pick<Exchange<unknown>, "waitMs" | "load">): number {
  return waitMs === undefined ? load : BUSY;
}
