import type { Clock, Timer } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import { partitionKey } from "../names.ts";
import type { CommittedOffset, GroupDescription, Membership, PartitionOffset, TopicPartition } from "../port.ts";
import {
  answerError,
  type CommitOutcome,
  type CoordinatorLink,
  isFenced,
  isUncommittable,
  type RebalanceListener,
  requestError,
  type WakeSignal,
} from "./coordinator.ts";
import { type Assignment, PROTOCOL, type Subscription, type TopicView } from "./protocol.ts";

/** A partition from its assignment until it is given up. */
export interface OwnedPartition extends TopicPartition {
  /** Being revoked. */
  leaving: boolean;
}

/** What the assignment needs of its member. */
interface AssignmentEvents {
  /** Resolves when the commits begun so far have ended. */
  commitsEnded(): Promise<void>;
  /** The member owns less than the group believes. */
  revoked(): void;
  /** The member owns all that the group has for it now. */
  complete(): void;
}

/** The partitions that this member owns, and the revocation of those that others get. */
export class GroupAssignment {
  readonly #listener: RebalanceListener;
  readonly #events: AssignmentEvents;
  readonly #clock: Clock;
  readonly #longestDrainMs: number;
  readonly #owned = new Map<string, OwnedPartition>();
  readonly #drains = new Set<Timer>();
  #assigned: ReadonlySet<string> = new Set();

  constructor(listener: RebalanceListener, events: AssignmentEvents, clock: Clock, longestDrainMs: number) {
    this.#listener = listener;
    this.#events = events;
    this.#clock = clock;
    this.#longestDrainMs = longestDrainMs;
  }

  get staying(): readonly TopicPartition[] {
    return [...this.#owned.values()].filter(({ leaving }) => !leaving);
  }

  get leaving(): readonly TopicPartition[] {
    return [...this.#owned.values()].filter(({ leaving }) => leaving);
  }

  /** The owned partition, if it is ours. */
  of(partition: TopicPartition): OwnedPartition | undefined {
    return this.#owned.get(partitionKey(partition));
  }

  /** Applies an assignment of the group. */
  adopt({ assigned, taken, awaited, topics }: Assignment): void {
    const problems = new Map(topics.map(({ topic, problem }) => [topic, problem]));
    this.#assigned = new Set(assigned.map(partitionKey));
    for (const [topic, partitions] of Map.groupBy(taken, ({ topic }) => topic)) {
      const problem = problems.get(topic);
      if (problem) this.lose(partitions, answerError(problem, `read ${topic}`));
      else if (this.lose(partitions, new MessagingError("conflict", `another member has partitions of ${topic}`))) {
        this.#events.revoked();
      }
    }
    const unwanted = [...this.#owned.values()].filter(
      (owned) => !owned.leaving && !this.#assigned.has(partitionKey(owned)),
    );
    // One by one: a slow handler holds up only its own partition.
    for (const owned of unwanted) void this.#revoke(owned);
    this.#take(assigned);
    if (awaited === 0) this.#events.complete();
  }

  /** Gives up partitions at once, as far as they are ours. Returns whether any was. */
  lose(partitions: readonly TopicPartition[], cause: MessagingError): boolean {
    const lost = partitions.filter((partition) => this.#owned.delete(partitionKey(partition)));
    if (lost.length > 0) this.#listener.lost(lost.map(plain), cause);
    return lost.length > 0;
  }

  /** Gives up everything at once. */
  loseAll(cause: MessagingError): void {
    this.#assigned = new Set();
    this.lose([...this.#owned.values()], cause);
  }

  /** Forgets everything without telling the listener. */
  end(): void {
    this.#owned.clear();
    for (const timer of this.#drains) this.#clock.cancel(timer);
  }

  #take(partitions: readonly TopicPartition[]): void {
    const added = partitions.filter((partition) => !this.#owned.has(partitionKey(partition))).map(plain);
    for (const partition of added) this.#owned.set(partitionKey(partition), { ...partition, leaving: false });
    if (added.length > 0) this.#listener.assigned(added);
  }

  async #revoke(owned: OwnedPartition): Promise<void> {
    owned.leaving = true;
    const inTime = await this.#drained(owned);
    if (this.of(owned) !== owned) return;
    if (inTime) this.#owned.delete(partitionKey(owned));
    else this.lose([owned], this.#overdue(owned));
    // The group may have assigned it to us again meanwhile: it starts anew.
    if (this.#assigned.has(partitionKey(owned))) this.#take([owned]);
    else this.#events.revoked();
  }

  /** Resolves with whether the listener finished in time. */
  #drained(owned: OwnedPartition): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#clock.schedule(() => {
        this.#drains.delete(timer);
        resolve(false);
      }, this.#longestDrainMs);
      this.#drains.add(timer);
      const end = async (): Promise<void> => {
        await this.#events.commitsEnded();
        this.#clock.cancel(timer);
        this.#drains.delete(timer);
        resolve(true);
      };
      this.#listener.revoke([plain(owned)]).then(end, end);
    });
  }

  #overdue({ topic, partition }: OwnedPartition): MessagingError {
    return new MessagingError(
      "timeout",
      `"${topic}", partition ${partition}, which others are to have, was not let go within ${this.#longestDrainMs} ms; let handlers end sooner, or raise the rebalance timeout`,
    );
  }
}

function plain({ topic, partition }: TopicPartition): TopicPartition {
  return { topic, partition };
}

/** An offset to commit, with metadata. */
export type Commit = PartitionOffset & { readonly metadata: string };

/** What commits need of their member. */
export interface CommitsContext {
  isClosed(): boolean;
  /** The membership to commit with; undefined if there is none, or its assignment is not known yet. */
  membership(): Membership | undefined;
  ownedPartition(partition: TopicPartition): OwnedPartition | undefined;
  /** The coordinator does not know the membership. */
  fenced(membership: Membership, name: string): void;
  /** An unanswered commit may still be carried out. The next generation rules that out. */
  renewGeneration(): void;
  report(cause: MessagingError): void;
  /** The pause before an attempt, counted from 1. */
  backoffMs(attempt: number): number;
}

/** A commit of one partition under way. */
interface Pending {
  readonly commit: Commit;
  readonly owned: OwnedPartition | undefined;
  outcome: CommitOutcome | undefined;
}

/** Commits offsets as a member, and reads committed offsets. */
export class Commits {
  readonly #group: string;
  readonly #link: CoordinatorLink;
  readonly #events: CommitsContext;
  readonly #clock: Clock;
  readonly #longestMs: number;
  /** Notified when the membership changes, and at the end. */
  readonly #changed: WakeSignal;
  readonly #underWay = new Set<Promise<unknown>>();
  /** The generation with an unanswered commit, which may still be carried out. */
  #doubtful = -1;

  constructor(
    group: string,
    link: CoordinatorLink,
    events: CommitsContext,
    clock: Clock,
    longestMs: number,
    changed: WakeSignal,
  ) {
    this.#group = group;
    this.#link = link;
    this.#events = events;
    this.#clock = clock;
    this.#longestMs = longestMs;
    this.#changed = changed;
  }

  /** Resolves when the commits begun so far have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async commit(offsets: readonly Commit[]): Promise<readonly CommitOutcome[]> {
    const pending = offsets.map(
      (commit): Pending => ({ commit, owned: this.#events.ownedPartition(commit), outcome: undefined }),
    );
    const work = this.#commit(pending);
    this.#underWay.add(work);
    await work;
    this.#underWay.delete(work);
    return pending.map(({ outcome }) => outcome ?? "failed");
  }

  async committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    const what = `report the offsets of group ${this.#group}`;
    for (let attempt = 1; ; attempt++) {
      if (this.#events.isClosed()) throw new MessagingError("closed", `the member of group ${this.#group} is closed`);
      try {
        const { error, offsets } = await this.#link.ask(what, (connection, node) =>
          connection.fetchOffsets(node, this.#group, partitions),
        );
        const found = new Map(offsets.map((offset) => [partitionKey(offset), offset]));
        const answers = partitions.map((partition) => found.get(partitionKey(partition)));
        const problem = error ?? answers.find((answer) => answer?.error !== undefined)?.error;
        if (problem === undefined && !answers.includes(undefined)) return answers as readonly CommittedOffset[];
        this.#link.forget();
        throw answerError(problem ?? "INCOMPLETE_ANSWER", what);
      } catch (error) {
        if (attempt > 1 && !this.#events.isClosed()) this.#events.report(requestError(error, what));
      }
      if (!this.#events.isClosed()) await this.#changed.wait(this.#events.backoffMs(attempt));
    }
  }

  async #commit(pending: readonly Pending[]): Promise<void> {
    const end = this.#clock.monotonic() + this.#longestMs;
    for (let attempt = 1; ; attempt++) {
      const membership = this.#events.membership();
      for (const item of pending) if (!this.#isOurs(item)) item.outcome ??= "fenced";
      const open = pending.filter(({ outcome }) => outcome === undefined);
      const left = end - this.#clock.monotonic();
      if (open.length === 0 || left <= 0) return;
      if (membership?.generation === this.#doubtful) this.#events.renewGeneration();
      else if (membership !== undefined) await this.#send(open, membership);
      if (open.every(({ outcome }) => outcome !== undefined)) return;
      await this.#changed.wait(Math.min(left, this.#events.backoffMs(attempt)));
    }
  }

  /** Ours without a break since the call: otherwise another member could be ahead. */
  #isOurs({ commit, owned }: Pending): boolean {
    return owned !== undefined && this.#events.ownedPartition(commit) === owned && !this.#events.isClosed();
  }

  async #send(open: readonly Pending[], membership: Membership): Promise<void> {
    const what = `commit the offsets of group ${this.#group}`;
    try {
      const answers = await this.#link.ask(what, (connection, node) =>
        connection.commitOffsets(node, { ...membership, offsets: open.map(({ commit }) => commit) }),
      );
      const errors = new Map(answers.map((answer) => [partitionKey(answer), answer.error]));
      for (const item of open) {
        const key = partitionKey(item.commit);
        if (errors.has(key)) this.#judge(item, errors.get(key), membership, what);
      }
    } catch {
      // The server may carry it out later, even after a later commit.
      this.#doubtful = membership.generation;
    }
  }

  #judge(item: Pending, error: string | undefined, membership: Membership, what: string): void {
    if (error === undefined) {
      item.outcome = "committed";
    } else if (isFenced(error)) {
      this.#events.fenced(membership, error);
    } else if (isUncommittable(error)) {
      item.outcome = "failed";
      this.#events.report(answerError(error, what));
    } else if (error !== "REBALANCE_IN_PROGRESS") {
      this.#link.forget();
    }
  }
}

const CONSUMERS = "consumer";
/** What members of others say of themselves is shown with so many characters, and of so many clients. */
const MAX_NAME = 100;
const MAX_CLIENTS = 20;
const ADVICE = "stop them, or let them use a group of another name";

/**
 * Why the group cannot be joined: its members share partitions by another protocol. Undefined if it can be, as far as
 * known; during a rebalance a group does not name its assignor.
 */
export function foreignMembers(group: string, found: GroupDescription): MessagingError | undefined {
  const { members, protocol, protocolType, assignor, clients } = found;
  if (members === 0) return undefined;
  const what = kindOf(protocol, protocolType, assignor);
  if (what === undefined) return undefined;
  const shown = clients.slice(0, MAX_CLIENTS).map(quoted).join(", ");
  const more = clients.length > MAX_CLIENTS ? ` and ${clients.length - MAX_CLIENTS} more` : "";
  const names = clients.length === 0 ? "" : `, of the clients ${shown}${more}`;
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka has ${members} members ${what}${names}: their partitions are not shared with anybroker; ${ADVICE}`,
  );
}

function kindOf(protocol: GroupDescription["protocol"], protocolType: string, assignor: string): string | undefined {
  if (protocol === "consumer") return "of the new consumer protocol (group.protocol=consumer, KIP-848)";
  if (protocolType !== CONSUMERS) return `of the protocol type ${quoted(protocolType)}`;
  return assignor === "" || assignor === PROTOCOL ? undefined : `with the assignor ${quoted(assignor)}`;
}

function quoted(name: string): string {
  return `"${oneLine(name, MAX_NAME)}"`;
}

/** Why the coordinator refuses our protocol; undefined for other answers. */
export function foreignGroup(group: string, name: string): MessagingError | undefined {
  if (name !== "INCONSISTENT_GROUP_PROTOCOL") return undefined;
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka takes no members of anybroker (${name}): it has members of another protocol, or is a share or streams group; ${ADVICE}`,
  );
}

/** The group's leader assigned partitions by another protocol. */
export function unreadableAssignment(group: string, cause: unknown): MessagingError {
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka assigns partitions in a way that cannot be read: clients of another protocol, such as group.protocol=consumer (KIP-848), are in it, and it was left to them; ${ADVICE}`,
    { cause },
  );
}

/** A member as the leader sees it. */
export interface Claimant extends Subscription {
  readonly memberId: string;
}

/** A member's partitions, now and next. */
interface Share {
  readonly claimant: Claimant;
  readonly assigned: TopicPartition[];
  readonly taken: TopicPartition[];
  /** How many partitions it gets in the end. */
  total: number;
  /** How many of them other members still own. */
  awaited: number;
}

/** A member among the readers of a topic. */
interface Place {
  readonly share: Share;
  /** Its partitions of the topic; those it does not give up come first. */
  readonly kept: readonly number[];
  /** How many moves are saved if it gets one more than others. */
  readonly spared: number;
  /** How many more it may get. */
  room: number;
}

/** A member's claim to a partition; without a member if two claims contradict each other. */
interface Claim {
  readonly by: Share | undefined;
  readonly generation: number;
  readonly leaving: boolean;
}

/**
 * Divides the partitions among the members.
 *
 * - Each topic is spread over its readers to within one partition; so are all topics together if all members read the
 * same.
 * - Members keep what they own, except surplus partitions, which stay unassigned until they are given up.
 * - Partitions without an owner are assigned at once.
 * - Each member gets the state of its topics.
 *
 * Time is about linear in the size of the input.
 */
export function assign(claimants: readonly Claimant[], topics: readonly TopicView[]): ReadonlyMap<string, Assignment> {
  const shares = claimants
    .map((claimant): Share => ({ claimant, assigned: [], taken: [], total: 0, awaited: 0 }))
    .sort((one, other) => (one.claimant.memberId < other.claimant.memberId ? -1 : 1));
  const problems = new Set(topics.filter(({ problem }) => problem !== "").map(({ topic }) => topic));
  const claims = settleClaims(shares, problems);
  const readersOf = new Map<string, Share[]>();
  for (const share of shares) {
    for (const topic of new Set(share.claimant.topics)) listIn(readersOf, topic).push(share);
  }
  for (const view of [...topics].sort((one, other) => (one.topic < other.topic ? -1 : 1))) {
    const readers = readersOf.get(view.topic);
    if (readers !== undefined) spread(view, readers, claims.get(view.topic));
  }
  const views = new Map(topics.map((view) => [view.topic, view]));
  return new Map(
    shares.map(({ claimant, assigned, taken, awaited }) => {
      const own = [...new Set(claimant.topics)].flatMap((topic) => views.get(topic) ?? []);
      return [claimant.memberId, { assigned, taken, awaited, topics: own }];
    }),
  );
}

/** The list of a key, created if needed. */
function listIn<Key, Item>(lists: Map<Key, Item[]>, key: Key): Item[] {
  const list = lists.get(key) ?? [];
  if (list.length === 0) lists.set(key, list);
  return list;
}

/** Claims on the partitions of one topic. */
type Claims = ReadonlyMap<number, Claim>;

/**
 * Finds the valid claim to each partition: the latest generation wins, and two claims of one generation are both
 * invalid.
 */
function settleClaims(shares: readonly Share[], problems: ReadonlySet<string>): ReadonlyMap<string, Claims> {
  const settled = new Map<string, Map<number, Claim>>();
  for (const by of shares) {
    const { generation, held, leaving } = by.claimant;
    const claimed = [...held, ...leaving];
    for (let index = 0; index < claimed.length; index++) {
      const partition = claimed[index] as TopicPartition;
      const claims = settled.get(partition.topic) ?? new Map<number, Claim>();
      if (claims.size === 0) settled.set(partition.topic, claims);
      const rival = claims.get(partition.partition);
      if (problems.has(partition.topic) || (rival !== undefined && rival.generation > generation)) {
        by.taken.push(partition);
        continue;
      }
      const claim = { by, generation, leaving: index >= held.length };
      rival?.by?.taken.push(partition);
      const contradiction = rival?.generation === generation;
      if (contradiction) by.taken.push(partition);
      claims.set(partition.partition, contradiction ? { ...claim, by: undefined } : claim);
    }
  }
  return settled;
}

function spread({ topic, partitions }: TopicView, readers: readonly Share[], claims: Claims | undefined): void {
  const free: number[] = [];
  const staying = new Map<Share | undefined, number[]>();
  const leaving = new Map<Share | undefined, number[]>();
  for (let partition = 0; partition < partitions; partition++) {
    const claim = claims?.get(partition);
    if (claim === undefined) {
      free.push(partition);
      continue;
    }
    listIn(claim.leaving ? leaving : staying, claim.by).push(partition);
  }

  const least = Math.floor(partitions / readers.length);
  const ranked = readers.map((share): Place => {
    const goesOn = staying.get(share) ?? [];
    const kept = [...goesOn, ...(leaving.get(share) ?? [])];
    const spared = goesOn.length > least ? 2 : kept.length > least ? 1 : 0;
    return { share, kept, spared, room: 0 };
  });
  // Surplus partitions go first to members with the least in total, then where it saves a move, then to those who own
  // the least.
  ranked.sort(
    (one, other) =>
      one.share.total - other.share.total ||
      other.spared - one.spared ||
      one.share.claimant.held.length - other.share.claimant.held.length,
  );
  for (const [rank, place] of ranked.entries()) {
    const quota = least + (rank < partitions % readers.length ? 1 : 0);
    place.share.total += quota;
    place.room = Math.max(quota - place.kept.length, 0);
    for (const partition of place.kept.slice(0, quota)) place.share.assigned.push({ topic, partition });
  }
  // Free partitions go to the member with the most room.
  const takers = byRoom(ranked);
  for (const [index, partition] of free.slice(0, takers.length).entries()) {
    const taker = takers[index] as Place;
    taker.room--;
    taker.share.assigned.push({ topic, partition });
  }
  for (const { share, room } of ranked) share.awaited += room;
}

/** Each member as often as it has room, by decreasing room. */
function byRoom(ranked: readonly Place[]): readonly Place[] {
  const levels: Place[][] = [];
  for (const place of ranked) {
    for (let level = 0; level < place.room; level++) {
      levels[level] ??= [];
      levels[level]?.push(place);
    }
  }
  return levels.reverse().flat();
}
