import type { MessagingError } from "../../../core/errors.ts";
import { partitionKey } from "../names.ts";
import type { FetchedFrom, FetchedPartition, FetchRequest, TopicId, TopicPartition } from "../port.ts";
import type { BrokerSocket } from "./broker-socket.ts";
import { checkFetch, type Fetched, unfetched, type WireFetch } from "./log-exchanges.ts";

const NO_SESSION = 0;
const FIRST_EPOCH = 0;
const MAX_EPOCH = 2 ** 31 - 1;

/** A partition in the session: the last request and answer. */
interface Known {
  readonly wanted: FetchedFrom;
  last: FetchedPartition | undefined;
}

/**
 * A fetch session of long polls (KIP-227): only changes are sent, and only news is answered. Without room on the node,
 * every poll is complete.
 */
class FetchSession {
  #id = NO_SESSION;
  #epoch = FIRST_EPOCH;
  #known = new Map<string, Known>();
  #names = new Map<TopicId, string>();

  /** What to send to ask for these partitions, each once. */
  ask(wanted: readonly FetchedFrom[]): Pick<WireFetch, "partitions" | "session"> {
    if (this.#epoch === FIRST_EPOCH) {
      this.#known = new Map();
      this.#names = new Map();
    }
    const before = this.#known;
    const known = new Map<string, Known>();
    const partitions: FetchedFrom[] = [];
    const forgotten: FetchedFrom[] = [];
    for (const one of wanted) {
      const name = partitionKey(one);
      const found = before.get(name);
      if (found !== undefined && isSame(found.wanted, one)) {
        known.set(name, found);
        continue;
      }
      // Servers identify partitions by topic id.
      if (found !== undefined && found.wanted.topicId !== one.topicId) forgotten.push(found.wanted);
      partitions.push(one);
      known.set(name, { wanted: one, last: undefined });
      this.#names.set(one.topicId, one.topic);
    }
    for (const [name, { wanted: gone }] of before) if (!known.has(name)) forgotten.push(gone);
    this.#known = known;
    return { partitions, session: { id: this.#id, epoch: this.#epoch, forgotten, names: this.#names } };
  }

  /** Applies an answer. */
  answered({ sessionId, partitions }: Fetched): void {
    this.#id = sessionId;
    if (sessionId === NO_SESSION) this.#epoch = FIRST_EPOCH;
    else this.#epoch = this.#epoch === MAX_EPOCH ? 1 : this.#epoch + 1;
    for (const fetched of partitions) {
      const known = this.#known.get(partitionKey(fetched));
      if (known !== undefined) known.last = { ...fetched, records: NOTHING, abortedTransactions: [] };
    }
  }

  /** The last answer about a partition without news. */
  lastOf(at: TopicPartition): FetchedPartition | undefined {
    return this.#known.get(partitionKey(at))?.last;
  }

  /** Whether the last poll was complete. */
  get isNew(): boolean {
    return this.#epoch === FIRST_EPOCH;
  }

  /** The node's state is unknown: the next poll is complete. */
  forget(): void {
    this.#epoch = FIRST_EPOCH;
  }
}

const NOTHING = Buffer.alloc(0);

function isSame(one: FetchedFrom, other: FetchedFrom): boolean {
  return one.offset === other.offset && one.maxBytes === other.maxBytes && one.topicId === other.topicId;
}

/** Sends a poll to the node; `asked` gets the socket. */
type SendPoll = (role: "long" | "quick", request: WireFetch, asked: (socket: BrokerSocket) => void) => Promise<Fetched>;

/** How long the node may hold back an empty answer: for idle partitions, and for others. */
const LONG_MS = 1_000;
const BUSY_MS = 500;
/** The same while other requests would wait for it. */
const SHORT_MS = 50;
/** A partition without news for this long is idle. */
const IDLE_AFTER_MS = 1_000;
/** How many quick polls run at a time. */
const MAX_QUICK = 2;
/** How long the long poll waits for a quick one, to include newly idle partitions. */
const MOMENT_MS = 20;
const MAX_BYTES = 8 * 1024 * 1024;
/** Each partition costs both sides some microseconds, so large polls are less frequent. */
const PAUSE_MS_PER_PARTITION = 0.02;
/** Shorter pauses are skipped. */
const MIN_PAUSE_MS = 2;

/** While the node throttles, a request is answered empty after at least this time. */
const PAUSED_ANSWER_MS = 1_000;

/** How many idle partitions are remembered. */
const MAX_REMEMBERED = 100_000;

/** A partition of a request. */
interface Entry {
  readonly key: string;
  readonly wanted: FetchedFrom;
  /** The number of its last request: the longest wait goes first. */
  turn: number;
}

/** A pending request. */
interface Waiting {
  readonly entries: readonly Entry[];
  readonly since: number;
  readonly until: number;
  readonly resolve: (answer: readonly FetchedPartition[]) => void;
  readonly reject: (error: unknown) => void;
  /** Nothing came for a while. */
  isIdle: boolean;
  poll: Poll | undefined;
}

/** A poll under way. */
interface Poll {
  readonly role: "long" | "quick";
  readonly waiting: readonly Waiting[];
  readonly included: ReadonlySet<Entry>;
  /** When its answer is due at the latest. */
  readonly endsAt: number;
  socket: BrokerSocket | undefined;
  /** Its socket is distrusted. Its requests are polled again. */
  isGivenUp: boolean;
}

/**
 * Unites all fetches from a node into few requests: one long poll for idle partitions, and short ones for the others,
 * so that new and busy ones do not wait for idle ones. If several readers read a partition at different offsets, they
 * take turns.
 */
export class SharedFetch {
  readonly #send: SendPoll;
  readonly #waiting = new Set<Waiting>();
  readonly #polls = new Set<Poll>();
  /** Partitions whose last request was answered empty: the next request starts as idle. */
  readonly #idle = new Set<string>();
  /** The session of the long polls, which ask for many partitions that rarely change. */
  readonly #session = new FetchSession();
  #turn = 0;
  #pausedUntil = 0;
  readonly #notBefore = { long: 0, quick: 0 };
  #isDue = false;
  /** The long poll is about to be sent. */
  #isLongDue = false;
  #timer: NodeJS.Timeout | undefined;
  #dueAt = Number.POSITIVE_INFINITY;

  constructor(send: SendPoll) {
    this.#send = send;
  }

  /** Whether no request is pending. */
  get isIdle(): boolean {
    return this.#waiting.size === 0 && this.#polls.size === 0;
  }

  /**
   * Resolves with all that is known once something arrived for one of the partitions, or after at least `maxWaitMs`;
   * with nothing if a quota is used up. `cancel` ends it without an answer. With an error, the socket is distrusted and
   * other requests on it are sent again.
   */
  fetch(request: FetchRequest): {
    readonly answer: Promise<readonly FetchedPartition[]>;
    readonly cancel: (distrusted?: MessagingError) => void;
  } {
    const { promise: answer, resolve, reject } = Promise.withResolvers<readonly FetchedPartition[]>();
    if (request.partitions.length === 0) {
      resolve([]);
      return { answer, cancel: () => undefined };
    }
    try {
      checkFetch(request.partitions);
    } catch (error) {
      reject(error);
      return { answer, cancel: () => undefined };
    }
    const now = performance.now();
    const entries = request.partitions.map(
      (wanted): Entry => ({ key: partitionKey(wanted), wanted, turn: ++this.#turn }),
    );
    const names = entries.map(nameOf);
    const isIdle = names.every((name) => this.#idle.has(name));
    for (const name of names) this.#idle.delete(name);
    const until = now + request.maxWaitMs;
    const waiting: Waiting = { entries, since: now, until, resolve, reject, isIdle, poll: undefined };
    this.#waiting.add(waiting);
    this.#pumpSoon();
    const cancel = (distrusted?: MessagingError): void => {
      this.#waiting.delete(waiting);
      const { poll } = waiting;
      if (distrusted === undefined || poll === undefined || !this.#polls.has(poll)) return;
      poll.isGivenUp = true;
      void poll.socket?.end(distrusted);
    };
    return { answer, cancel };
  }

  /** Ends the wait for the end of a throttle; no request follows. */
  close(): void {
    clearTimeout(this.#timer);
  }

  /** Pumps after this turn, once all readers have asked again. */
  #pumpSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#pump();
    });
  }

  #pumpAt(at: number): void {
    if (at >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = at;
    this.#timer = setTimeout(
      () => {
        this.#dueAt = Number.POSITIVE_INFINITY;
        this.#pump();
      },
      Math.max(0, at - performance.now()),
    );
  }

  #pump(): void {
    const now = performance.now();
    if (this.#waiting.size === 0) return;
    if (this.#pausedUntil > now) {
      this.#rest(now);
      return;
    }
    this.#pumpLong(now);
    // Partitions that one poll leaves out go into the next.
    while (this.#of("quick").length < MAX_QUICK) {
      // Requests that become idle during a long poll stay in quick polls.
      const free = [...this.#waiting].filter(({ poll, isIdle }) => poll === undefined && !(isIdle && this.#isLongDue));
      if (free.length === 0 || !this.#poll("quick", free, now)) return;
    }
  }

  /** While the node throttles, requests whose time is over get an empty answer, which reports the throttle. */
  #rest(now: number): void {
    let next = this.#pausedUntil;
    for (const waiting of this.#waiting) {
      const until = Math.max(waiting.until, waiting.since + PAUSED_ANSWER_MS);
      if (waiting.poll !== undefined) continue;
      if (until > now) next = Math.min(next, until);
      else {
        this.#waiting.delete(waiting);
        waiting.resolve([]);
      }
    }
    this.#pumpAt(next);
  }

  #pumpLong(now: number): void {
    this.#isLongDue = false;
    if (this.#of("long").length > 0) return;
    const free = [...this.#waiting].filter(({ poll, isIdle }) => poll === undefined && isIdle);
    if (free.length === 0) return;
    const isAwaited = this.#of("quick").some(({ endsAt, waiting }) => {
      return endsAt - now < MOMENT_MS && waiting.some(({ since }) => endsAt - since >= IDLE_AFTER_MS);
    });
    this.#isLongDue = isAwaited || !this.#poll("long", free, now);
  }

  #of(role: Poll["role"]): readonly Poll[] {
    return [...this.#polls].filter((poll) => poll.role === role);
  }

  /** Returns whether a poll was sent. */
  #poll(role: "long" | "quick", candidates: readonly Waiting[], now: number): boolean {
    const notBefore = this.#notBefore[role];
    if (notBefore - now > MIN_PAUSE_MS) {
      this.#pumpAt(notBefore);
      return false;
    }
    const { included, leavesOut } = this.#choose(candidates.flatMap(({ entries }) => entries));
    const waiting = candidates.filter(({ entries }) => entries.some((entry) => included.has(entry)));
    const maxWaitMs = this.#waitOf(role, waiting, leavesOut, now);
    const poll: Poll = { role, waiting, included, endsAt: now + maxWaitMs, socket: undefined, isGivenUp: false };
    for (const one of waiting) one.poll = poll;
    for (const entry of included) entry.turn = ++this.#turn;
    this.#polls.add(poll);
    const partitions = [...new Map([...included].map(({ key, wanted }) => [key, wanted])).values()];
    this.#notBefore[role] = now + partitions.length * PAUSE_MS_PER_PARTITION;
    // The first partition of a request gets its first batch whole, of any size.
    const maxBytes = partitions.reduce((most, wanted) => Math.max(most, wanted.maxBytes), MAX_BYTES);
    const asked = (socket: BrokerSocket): void => {
      poll.socket = socket;
    };
    const wire = role === "long" ? this.#session.ask(partitions) : { partitions };
    this.#send(role, { maxWaitMs, minBytes: 1, maxBytes, ...wire }, asked).then(
      (fetched) => this.#answered(poll, fetched),
      (error: unknown) => this.#failed(poll, error),
    );
    return true;
  }

  #waitOf(role: Poll["role"], waiting: readonly Waiting[], leavesOut: boolean, now: number): number {
    const soonest = waiting.reduce((least, { until }) => Math.min(least, until), Number.POSITIVE_INFINITY);
    const isLastFree = role === "quick" && this.#of("quick").length === MAX_QUICK - 1;
    const mostMs = leavesOut || isLastFree ? SHORT_MS : role === "long" ? LONG_MS : BUSY_MS;
    // Ends with the long poll, so that newly idle partitions can join the next one.
    const long = role === "quick" ? this.#of("long")[0] : undefined;
    const meets = long === undefined || long.endsAt <= now ? Number.POSITIVE_INFINITY : long.endsAt + 1;
    return Math.max(0, Math.floor(Math.min(now + mostMs, soonest, meets) - now));
  }

  /** Chooses by waiting time. A partition is included once, with all requests at the same offset. */
  #choose(entries: readonly Entry[]): { readonly included: ReadonlySet<Entry>; readonly leavesOut: boolean } {
    const chosen = new Map<string, Entry>();
    const included = new Set<Entry>();
    for (const entry of [...entries].sort((one, other) => one.turn - other.turn)) {
      const first = chosen.get(entry.key) ?? entry;
      chosen.set(entry.key, first);
      if (isSame(entry.wanted, first.wanted)) included.add(entry);
    }
    return { included, leavesOut: included.size < entries.length };
  }

  #answered(poll: Poll, fetched: Fetched): void {
    const { throttledMs, error } = fetched;
    const isLong = poll.role === "long";
    this.#end(poll);
    const now = performance.now();
    if (throttledMs > 0) this.#pausedUntil = Math.max(this.#pausedUntil, now + throttledMs);
    if (isLong) {
      const wasNew = this.#session.isNew;
      if (error === undefined) this.#session.answered(fetched);
      else this.#session.forget();
      // The node has lost the session.
      if (error !== undefined && !wasNew) {
        this.#pumpSoon();
        return;
      }
    }
    const pieces = this.#piecesOf(poll, fetched);
    const isRefused = throttledMs > 0 && pieces.size === 0;
    const pieceOf = (entry: Entry): FetchedPartition | undefined =>
      poll.included.has(entry) ? pieces.get(entry.key) : undefined;
    for (const waiting of this.#stillOf(poll)) {
      const hasCome = waiting.entries.some((entry) => {
        const piece = pieceOf(entry);
        return piece !== undefined && (piece.error !== undefined || piece.records.length > 0);
      });
      if (hasCome || isRefused || waiting.until <= now) {
        this.#waiting.delete(waiting);
        if (!hasCome && !isRefused && waiting.isIdle)
          for (const entry of waiting.entries) this.#idle.add(nameOf(entry));
        const lastOf = (entry: Entry) => (isLong && !isRefused ? this.#session.lastOf(entry.wanted) : undefined);
        waiting.resolve(waiting.entries.flatMap((entry) => pieceOf(entry) ?? lastOf(entry) ?? []));
      } else if (now - waiting.since >= IDLE_AFTER_MS) waiting.isIdle = true;
    }
    if (this.#idle.size > MAX_REMEMBERED) this.#idle.clear();
    this.#pumpSoon();
  }

  #piecesOf({ waiting, included }: Poll, { error, partitions }: Fetched): ReadonlyMap<string, FetchedPartition> {
    if (error !== undefined) {
      return new Map([...included].map(({ key, wanted }) => [key, unfetched(wanted, error)]));
    }
    const isShared = waiting.length > 1;
    return new Map(partitions.map((one) => [partitionKey(one), isShared ? alone(one) : one]));
  }

  #failed(poll: Poll, error: unknown): void {
    this.#end(poll);
    if (poll.role === "long") this.#session.forget();
    if (!poll.isGivenUp) {
      for (const waiting of this.#stillOf(poll)) {
        this.#waiting.delete(waiting);
        waiting.reject(error);
      }
    }
    this.#pumpSoon();
  }

  #end(poll: Poll): void {
    this.#polls.delete(poll);
    for (const waiting of poll.waiting) waiting.poll = undefined;
  }

  /** The requests of a poll that still wait. */
  #stillOf({ waiting }: Poll): readonly Waiting[] {
    return waiting.filter((one) => this.#waiting.has(one));
  }
}

function nameOf({ key, wanted }: Entry): string {
  return `${key} ${wanted.offset}`;
}

/** Copies the records: a part that is kept must not keep the whole answer in memory. */
function alone(fetched: FetchedPartition): FetchedPartition {
  return fetched.records.length === 0 ? fetched : { ...fetched, records: Buffer.from(fetched.records) };
}
