import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { ErrorName, FetchRequest } from "../port.ts";
import { BrokerSocket, type SocketSettings } from "./broker-socket.ts";
import { type Cluster, metadata } from "./cluster-exchanges.ts";
import { type Address, describeBroker, hostFault } from "./errors.ts";
import { BUSY, type Exchange, loadOf } from "./exchange.ts";
import { coordinator } from "./group-exchanges.ts";
import { fetch } from "./log-exchanges.ts";
import { SharedFetch } from "./shared-fetch.ts";

/** A node id or a broker's address. */
type SocketTarget = number | Address;

/** Opens a socket; `onEnd` is called when it is unusable. */
type OpenSocket = (to: SocketTarget, onEnd: () => void) => BrokerSocket;

/** The sockets to one target for one role: one, or more while all are busy. */
export class SocketGroup {
  /** The target of the next socket. */
  to: SocketTarget;
  readonly #most: number;
  readonly #open: OpenSocket;
  readonly #sockets = new Set<BrokerSocket>();

  /** At most `most` sockets, not counting retired ones. */
  constructor(to: SocketTarget, most: number, open: OpenSocket) {
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
   * Picks the socket for a request of this load: for a quick one the first with room, so that others fall idle; for a
   * slow one the least busy. Opens another if none has room.
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

  /** Retires idle sockets, except `keep`. */
  closeIdle(keep: number, idleMs: number): void {
    const serving = this.#serving;
    const idle = serving.filter((socket) => socket.idleMs >= idleMs);
    for (const socket of idle.slice(Math.max(0, keep - (serving.length - idle.length)))) socket.retire();
  }

  /** Closes all sockets; pending requests reject with `error`. */
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

/** How long an idle socket is kept. */
const IDLE_MS = 10_000;
const SWEEP_MS = 2_000;
/** How many sockets to a node each role may have. A join has its own socket, since it blocks it. */
const ROLES = Object.freeze({
  ordinary: 8,
  commit: 8,
  produce: 1,
  membership: Number.POSITIVE_INFINITY,
  long: 1,
  quick: 2,
});
/** Roles that keep one idle socket: producers need it at once. */
const KEPT: readonly string[] = ["ordinary", "produce"] satisfies SocketRole[];

/**
 * What a socket is for. A broker answers the requests of one socket in order, so a slow one (a long poll, a join, a
 * write or commit until it is replicated) delays all behind it.
 */
export type SocketRole = keyof typeof ROLES;

/** Gets the socket of a request. */
export type OnSocket = (socket: BrokerSocket) => void;

/**
 * All sockets of a client, shared by its connections. To each node: one for quick requests, one to produce and one for
 * long polls; when busy, also some for commits and short polls, and one per join. They are opened as needed and closed
 * when idle, or with the last connection.
 */
export class SocketPool {
  readonly #settings: SocketSettings;
  readonly #seeds: readonly Address[];
  readonly #nodes = new Map<number, Address>();
  /** By target and role. */
  readonly #socketGroups = new Map<string, SocketGroup>();
  readonly #fetches = new Map<number, SharedFetch>();
  #users = 0;
  #sweep: NodeJS.Timeout | undefined;

  constructor(settings: SocketSettings, seeds: readonly Address[]) {
    this.#settings = settings;
    this.#seeds = seeds;
  }

  get requestTimeoutMs(): number {
    return this.#settings.requestTimeoutMs;
  }

  /** A connection starts to use the pool. */
  acquire(): void {
    this.#users++;
  }

  /** A connection ends. The last one closes all sockets, and waits for that. */
  async release(): Promise<void> {
    if (--this.#users > 0) return;
    const groups = [...this.#socketGroups.values()];
    this.#socketGroups.clear();
    // The throttles of the nodes end with the session.
    for (const shared of this.#fetches.values()) shared.close();
    this.#fetches.clear();
    if (this.#sweep !== undefined) clearInterval(this.#sweep);
    this.#sweep = undefined;
    await Promise.all(groups.map((group) => group.end(closedError())));
  }

  /** Resolves when one broker answers. */
  async connect(): Promise<void> {
    await this.#anySocket();
  }

  /** Asks a node, on a socket of a role. */
  async ask<Answer>(node: number, role: SocketRole, exchange: Exchange<Answer>, asked?: OnSocket): Promise<Answer> {
    return this.#believing(
      () => this.#socketsTo(node, role).pick(loadOf(exchange)),
      (socket) => this.#on(socket, exchange, asked),
    );
  }

  /** Asks any node. */
  async askAny<Answer>(exchange: Exchange<Answer>, asked?: OnSocket): Promise<Answer> {
    return this.#on(await this.#anySocket(), exchange, asked);
  }

  /** Asks any node for a group's coordinator. */
  async coordinator(group: string, asked?: OnSocket): Promise<{ readonly error: ErrorName; readonly node: number }> {
    const socket = await this.#anySocket();
    const { error, node, host, port } = await this.#on(socket, coordinator(group), asked);
    if (error === undefined) this.#learn(node, { host, port }, await socket.address());
    return { error, node };
  }

  /** Fetches from a node, united with other fetches. */
  fetch(node: number, request: FetchRequest): ReturnType<SharedFetch["fetch"]> {
    let shared = this.#fetches.get(node);
    if (shared === undefined) {
      shared = new SharedFetch((role, poll, asked) => this.ask(node, role, fetch(poll), asked));
      this.#fetches.set(node, shared);
    }
    return shared.fetch(request);
  }

  /** Asks for the topics, and refreshes the broker addresses. */
  async askCluster(topics: readonly string[] | "all", asked?: OnSocket): Promise<Cluster> {
    const socket = await this.#anySocket();
    const answer = await this.#on(socket, metadata(topics), asked);
    const from = await socket.address();
    // A broker that has just started may not know the others yet.
    if (answer.brokers.length > 0) this.#nodes.clear();
    for (const { node, host, port } of answer.brokers) this.#learn(node, { host, port }, from);
    return answer;
  }

  /** Stores a node's address, and which broker named it unless the user gave it. */
  #learn(node: number, { host, port }: Address, from: Address): void {
    const isGiven = this.#seeds.some((seed) => seed.host === host && seed.port === port);
    // The broker that named `from` counts as having named this one too.
    this.#nodes.set(node, isGiven ? { host, port } : { host, port, namedBy: from.namedBy ?? describeBroker(from) });
    // A socket to a seed becomes that of its node.
    const [seed, own] = [seedKey({ host, port }), groupKey(node, "ordinary")];
    const group = this.#socketGroups.get(seed);
    if (group === undefined || this.#socketGroups.has(own)) return;
    this.#socketGroups.delete(seed);
    this.#socketGroups.set(own, group);
    group.to = node;
  }

  #on<Answer>(socket: BrokerSocket, exchange: Exchange<Answer>, asked: OnSocket | undefined): Promise<Answer> {
    asked?.(socket);
    return socket.ask(exchange);
  }

  /** Uses a socket. Tries another one if the first failed to open because of the versions that the server named. */
  async #believing<Result>(pick: () => BrokerSocket, use: (socket: BrokerSocket) => Promise<Result>): Promise<Result> {
    const socket = pick();
    try {
      return await use(socket);
    } catch (error) {
      if (!isMessagingError(error, "unsupported") || socket.isOpen) throw error;
    }
    return use(pick());
  }

  /** An open socket to any broker, or the first one that opens. */
  async #anySocket(): Promise<BrokerSocket> {
    const open = this.#openSockets("ordinary") ?? this.#openSockets(undefined);
    if (open !== undefined) return open.pick(1);
    const ways = [
      ...[...this.#nodes.keys()].map((node) => () => this.#socketsTo(node)),
      ...this.#seeds.map((seed) => () => this.#socketsTo(seed)),
    ];
    const failures: unknown[] = [];
    for (const way of ways) {
      if (this.#users === 0) throw closedError();
      try {
        return await this.#believing(
          () => way().pick(1),
          async (socket) => {
            await socket.opened();
            return socket;
          },
        );
      } catch (error) {
        // All brokers know the same users, and have one release except during an upgrade.
        if (isMessagingError(error, "unauthorized") || isMessagingError(error, "unsupported")) throw error;
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    throw new MessagingError(
      "unreachable",
      `none of ${failures.length} Kafka brokers can be reached; the last: ${String((failures.at(-1) as Error).message)}`,
      { cause: failures.at(-1) },
    );
  }

  /** The open sockets of a role to any node; without a role, to a seed. */
  #openSockets(role: SocketRole | undefined): SocketGroup | undefined {
    for (const [name, group] of this.#socketGroups) if (roleOf(name) === role && group.isOpen) return group;
    return undefined;
  }

  #socketsTo(to: SocketTarget, role: SocketRole = "ordinary"): SocketGroup {
    if (this.#users === 0) throw closedError();
    const name = typeof to === "number" ? groupKey(to, role) : seedKey(to);
    const known = this.#socketGroups.get(name);
    if (known !== undefined) return known;
    const group = new SocketGroup(to, ROLES[role], this.#open.bind(this));
    this.#socketGroups.set(name, group);
    this.#sweep ??= setInterval(() => this.#closeIdle(), SWEEP_MS).unref();
    return group;
  }

  #open(to: SocketTarget, onEnd: () => void): BrokerSocket {
    if (typeof to !== "number") return new BrokerSocket(this.#settings, async () => to, onEnd);
    const socket = new BrokerSocket(this.#settings, () => this.#locate(to), onEnd);
    // After a failed login the node may have another address.
    socket.opened().catch(() => this.#nodes.delete(to));
    return socket;
  }

  async #locate(node: number): Promise<Address> {
    if (!this.#nodes.has(node)) await this.askCluster([]);
    const address = this.#nodes.get(node);
    const fault = address && hostFault(address);
    if (fault !== undefined) throw fault;
    if (address !== undefined) return address;
    throw new MessagingError("unreachable", `the Kafka cluster has no broker with the id ${node} at present`);
  }

  #closeIdle(): void {
    for (const [name, group] of this.#socketGroups) {
      const role = roleOf(name);
      // A seed is needed while no node is known.
      const isKept = role === undefined ? this.#openSockets("ordinary") === undefined : KEPT.includes(role);
      group.closeIdle(isKept ? 1 : 0, IDLE_MS);
      if (group.isEmpty) this.#socketGroups.delete(name);
    }
    for (const [node, shared] of this.#fetches) if (shared.isIdle) this.#fetches.delete(node);
  }
}

function groupKey(node: number, role: SocketRole): string {
  return `${node} ${role}`;
}

/** The role in a key; undefined for a seed. */
function roleOf(name: string): string | undefined {
  return name.split(" ")[1];
}

function seedKey({ host, port }: Address): string {
  return `${host}:${port}`;
}

export function closedError(): MessagingError {
  return new MessagingError("unreachable", "this connection to Kafka has been closed; open another");
}
