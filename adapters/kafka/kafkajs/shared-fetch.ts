import type { MessagingError } from "../../../core/errors.ts";
import type { FetchedFrom, FetchedPartition, FetchRequest, TopicId, TopicPartition } from "../port.ts";
import type { BrokerSocket } from "./broker-socket.ts";
import { checkFetch, type Fetched, unfetched, type WireFetch } from "./log-exchanges.ts";

const NO_SESSION = 0;
const FIRST_EPOCH = 0;
const MAX_EPOCH = 2 ** 31 - 1;

/** A partition of the session: what the server was asked, and what it said of it last. */
interface Known {
  readonly wanted: FetchedFrom;
  last: FetchedPartition | undefined;
}

/**
 * What a node remembers of a long poll (KIP-227), so that neither side repeats it: of a poll only changes are sent, and of its
 * answer only what is new. Where the node has no room for it every poll says and gets everything.
 */
class FetchSession {
  #id = NO_SESSION;
  #epoch = FIRST_EPOCH;
  #known = new Map<string, Known>();
  #names = new Map<TopicId, string>();

  /** What to send so that these are asked about, each partition once. */
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
      const name = partitionName(one);
      const found = before.get(name);
      if (found !== undefined && isSame(found.wanted, one)) {
        known.set(name, found);
        continue;
      }
      // The server tells partitions apart by the ids of their topics.
      if (found !== undefined && found.wanted.topicId !== one.topicId) forgotten.push(found.wanted);
      partitions.push(one);
      known.set(name, { wanted: one, last: undefined });
      this.#names.set(one.topicId, one.topic);
    }
    for (const [name, { wanted: gone }] of before) if (!known.has(name)) forgotten.push(gone);
    this.#known = known;
    return { partitions, session: { id: this.#id, epoch: this.#epoch, forgotten, names: this.#names } };
  }

  /** Takes an answer. */
  answered({ sessionId, partitions }: Fetched): void {
    this.#id = sessionId;
    if (sessionId === NO_SESSION) this.#epoch = FIRST_EPOCH;
    else this.#epoch = this.#epoch === MAX_EPOCH ? 1 : this.#epoch + 1;
    for (const fetched of partitions) {
      const known = this.#known.get(partitionName(fetched));
      if (known !== undefined) known.last = { ...fetched, records: NOTHING, abortedTransactions: [] };
    }
  }

  /** What the node said last of a partition that it has no news of. */
  lastOf(at: TopicPartition): FetchedPartition | undefined {
    return this.#known.get(partitionName(at))?.last;
  }

  /** Whether the node was told everything in the last poll. */
  get isNew(): boolean {
    return this.#epoch === FIRST_EPOCH;
  }

  /** What the node remembers is not known: the next poll says everything. */
  forget(): void {
    this.#epoch = FIRST_EPOCH;
  }
}

const NOTHING = Buffer.alloc(0);

function partitionName({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

function isSame(one: FetchedFrom, other: FetchedFrom): boolean {
  return one.offset === other.offset && one.maxBytes === other.maxBytes && one.topicId === other.topicId;
}

/** Sends a poll to the node; `asked` hears on which socket. */
type SendPoll = (role: "long" | "quick", request: WireFetch, asked: (socket: BrokerSocket) => void) => Promise<Fetched>;

/** For how long the node holds back an empty answer about what stands idle, and about the rest. */
const LONG_MS = 1_000;
const BUSY_MS = 500;
/** The same where those that come meanwhile, or were left out, would have to wait for it. */
const SHORT_MS = 50;
/** What stands idle is what nothing came of for so long. */
const IDLE_AFTER_MS = 1_000;
/** Quick ones at a time. */
const MAX_QUICK = 2;
/** The long one waits so long for a quick one, to take with it what has become idle. */
const MOMENT_MS = 20;
const MAX_BYTES = 8 * 1024 * 1024;
/** Each partition of a poll costs both sides some microseconds: polls of very many are made less often. */
const PAUSE_MS_PER_PARTITION = 0.02;
/** Less is not worth a timer. */
const MIN_PAUSE_MS = 2;

/** What stood idle once and never came again is of no use. */
const MAX_REMEMBERED = 100_000;

/** A partition that somebody wants to read. */
interface Entry {
  readonly key: string;
  readonly wanted: FetchedFrom;
  /** When it was last asked for, or came, counted: who waits longest goes first. */
  turn: number;
}

/** A question that has no answer yet. */
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

/** What is under way to the node. */
interface Poll {
  readonly role: "long" | "quick";
  readonly waiting: readonly Waiting[];
  readonly included: ReadonlySet<Entry>;
  /** When its answer comes at the latest, if all goes well. */
  readonly endsAt: number;
  socket: BrokerSocket | undefined;
  /** Its socket is not trusted any more. Those that wait are asked about again. */
  isGivenUp: boolean;
}

/**
 * What everybody wants to read of one node, in as few requests as may be: one long poll about all partitions of which
 * nothing came for a while, and short ones about the others, so that neither those that just begin nor those that are busy
 * wait for the idle ones. An answer goes to those whom it concerns. Of readers of one partition at several offsets one is
 * served after the other.
 */
export class SharedFetch {
  readonly #send: SendPoll;
  readonly #waiting = new Set<Waiting>();
  readonly #polls = new Set<Poll>();
  /** What stood idle when its question was answered with nothing: when it comes again it is idle still. */
  readonly #idle = new Set<string>();
  /** Of the long polls, which are about very many partitions that stay the same. */
  readonly #session = new FetchSession();
  #turn = 0;
  #pausedUntil = 0;
  readonly #notBefore = { long: 0, quick: 0 };
  #isDue = false;
  /** The long poll is about to go out. */
  #isLongDue = false;
  #timer: NodeJS.Timeout | undefined;
  #dueAt = Number.POSITIVE_INFINITY;

  constructor(send: SendPoll) {
    this.#send = send;
  }

  /** Whether nobody asks for anything. */
  get isIdle(): boolean {
    return this.#waiting.size === 0 && this.#polls.size === 0;
  }

  /**
   * Resolves when something came for one of the partitions, or after `maxWaitMs` at the least: with whatever is known of
   * them by then; with nothing at all where a quota is used up. `cancel` ends it without an answer; if the node is not
   * trusted any more, what was asked on that account is asked for others on another socket.
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
      (wanted): Entry => ({ key: partitionName(wanted), wanted, turn: ++this.#turn }),
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

  /** At the end of this turn, when everybody has been heard who asks on with what just came. */
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
      this.#pumpAt(this.#pausedUntil);
      return;
    }
    this.#pumpLong(now);
    // What one poll leaves out goes with the next.
    while (this.#of("quick").length < MAX_QUICK) {
      // Who becomes idle while the long poll is under way is not left alone for that.
      const free = [...this.#waiting].filter(({ poll, isIdle }) => poll === undefined && !(isIdle && this.#isLongDue));
      if (free.length === 0 || !this.#poll("quick", free, now)) return;
    }
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

  /** Returns whether it was sent. */
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
    // The first of the request gets a batch that is larger than that, whatever its size.
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
    // So that what is idle by then can go with the next long one.
    const long = role === "quick" ? this.#of("long")[0] : undefined;
    const meets = long === undefined || long.endsAt <= now ? Number.POSITIVE_INFINITY : long.endsAt + 1;
    return Math.max(0, Math.floor(Math.min(now + mostMs, soonest, meets) - now));
  }

  /** Who waits longest goes first. A partition can be asked for once, with all who want the same of it. */
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
      // The node has forgotten what it was told before.
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
    return new Map(partitions.map((one) => [partitionName(one), isShared ? standingAlone(one) : one]));
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

  /** Those of a poll who still wait. */
  #stillOf({ waiting }: Poll): readonly Waiting[] {
    return waiting.filter((one) => this.#waiting.has(one));
  }
}

function nameOf({ key, wanted }: Entry): string {
  return `${key} ${wanted.offset}`;
}

/** A piece that is kept for long must not keep the whole answer with it, in which there are those of others. */
function standingAlone(fetched: FetchedPartition): FetchedPartition {
  return fetched.records.length === 0 ? fetched : { ...fetched, records: Buffer.from(fetched.records) };
}
