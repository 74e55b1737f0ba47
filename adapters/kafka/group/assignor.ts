import { MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import type { GroupDescription, TopicPartition } from "../port.ts";
import { type Assignment, PROTOCOL, type Subscription, type TopicView } from "./protocol.ts";

const CONSUMERS = "consumer";
/** What members of others say of themselves is shown with so many characters, and of so many clients. */
const LONGEST_NAME = 100;
const MOST_CLIENTS = 20;
const ADVICE = "stop them, or let them use a group of another name";

/**
 * Why a group cannot be joined: others are in it that share partitions in another way. Undefined if it can be, as far as is
 * known: while a group is dividing its partitions it does not say how.
 */
export function foreignMembers(group: string, found: GroupDescription): MessagingError | undefined {
  const { members, protocol, protocolType, assignor, clients } = found;
  if (members === 0) return undefined;
  const what = kindOf(protocol, protocolType, assignor);
  if (what === undefined) return undefined;
  const shown = clients.slice(0, MOST_CLIENTS).map(quoted).join(", ");
  const more = clients.length > MOST_CLIENTS ? ` and ${clients.length - MOST_CLIENTS} more` : "";
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
  return `"${oneLine(name, LONGEST_NAME)}"`;
}

/** Why the coordinator takes nobody of ours in; undefined for an answer that says something else. */
export function foreignGroup(group: string, name: string): MessagingError | undefined {
  if (name !== "INCONSISTENT_GROUP_PROTOCOL") return undefined;
  return new MessagingError(
    "conflict",
    `group "${group}" on Kafka takes no members of anybroker (${name}): it has members of another protocol, or is a share or streams group; ${ADVICE}`,
  );
}

/** The group gave us partitions by a protocol that is not ours. */
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

/** What one member has, and is to have. */
interface Share {
  readonly claimant: Claimant;
  readonly assigned: TopicPartition[];
  readonly taken: TopicPartition[];
  /** How many partitions it is to have in the end. */
  total: number;
  /** How many of them are still with others. */
  awaited: number;
}

/** A member among the readers of a topic. */
interface Place {
  readonly share: Share;
  /** What it has of the topic, what it goes on with first. */
  readonly kept: readonly number[];
  /** How many moves it spares to give it one more than others. */
  readonly spared: number;
  /** How many more it may have. */
  room: number;
}

/** A partition in the hands of a member; of nobody whom it could stay with, if members contradict each other. */
interface Claim {
  readonly by: Share | undefined;
  readonly generation: number;
  readonly leaving: boolean;
}

/**
 * Who gets what, for each member: every topic spread to within one partition over those who read it, and all together
 * likewise where all read the same. Whoever has a partition keeps it unless it has too many; what it has too many goes to
 * nobody for now, so that it can be given up first. What nobody has is given out at once. Each is told of the topics that it
 * reads. Takes little more time than it takes to write down who is in the group, what they read and the partitions.
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
      const told = [...new Set(claimant.topics)].flatMap((topic) => views.get(topic) ?? []);
      return [claimant.memberId, { assigned, taken, awaited, topics: told }];
    }),
  );
}

/** The list under a key, which is made where there is none. */
function listIn<Key, Item>(lists: Map<Key, Item[]>, key: Key): Item[] {
  const list = lists.get(key) ?? [];
  if (list.length === 0) lists.set(key, list);
  return list;
}

/** Claims on the partitions of one topic. */
type Claims = ReadonlyMap<number, Claim>;

/** The one claim on each partition that holds. Two of one generation contradict each other: then neither does. */
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
  // One more than the others for those who are to have the least so far; of those for whom it spares a move; then for
  // those who have the least now, and would need more anyway.
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
  // Always to whoever has the most room left; of those to the first.
  const takers = byRoom(ranked);
  for (const [index, partition] of free.slice(0, takers.length).entries()) {
    const taker = takers[index] as Place;
    taker.room--;
    taker.share.assigned.push({ topic, partition });
  }
  for (const { share, room } of ranked) share.awaited += room;
}

/** Each as often as it has room: first those with the most, then they with one less and those who have so much, and so on. */
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
