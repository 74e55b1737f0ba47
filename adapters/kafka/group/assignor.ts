import { MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import type { GroupDescription, TopicPartition } from "../port.ts";
import { type Assignment, PROTOCOL, type Subscription, type TopicView } from "./protocol.ts";

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
