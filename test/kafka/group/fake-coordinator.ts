import { PROTOCOL } from "../../../adapters/kafka/group/protocol.ts";
import type {
  CommittedOffset,
  ErrorName,
  GroupDescription,
  JoinOutcome,
  JoinRequest,
  Membership,
  OffsetCommit,
  PartitionOutcome,
  SyncRequest,
  TopicPartition,
} from "../../../adapters/kafka/port.ts";
import type { Timer } from "../../../core/clock.ts";
import type { PausableClock } from "./pausable-clock.ts";

type State = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable";
type Reply<Answer> = (answer: Answer) => void;
/** What a member is answered to a sync. */
export type SyncOutcome = { readonly error: ErrorName; readonly assignment: Buffer };
/** What a group is answered to a question for offsets. */
export type FetchedOffsets = { readonly error: ErrorName; readonly offsets: readonly CommittedOffset[] };
type Stored = { readonly offset: number; readonly metadata: string };

/** What the coordinator keeps of a member. */
interface Seat {
  readonly memberId: string;
  sessionTimeoutMs: number;
  rebalanceTimeoutMs: number;
  metadata: Buffer;
  assignment: Buffer;
  joining: Reply<JoinOutcome> | undefined;
  syncing: Reply<SyncOutcome> | undefined;
  expiry: Timer | undefined;
}

/** What other brokers know of the group: it outlives the coordinator. */
interface Snapshot {
  readonly generation: number;
  readonly leader: string;
  readonly seats: readonly Pick<
    Seat,
    "memberId" | "sessionTimeoutMs" | "rebalanceTimeoutMs" | "metadata" | "assignment"
  >[];
}

export interface CoordinatorEvents {
  /** An offset of a member was taken. */
  committed(memberId: string, offset: TopicPartition & Stored): void;
  log(text: string): void;
}

const NOTHING = Buffer.alloc(0);

/** The coordinator of one group, as Kafka's classic protocol has it. */
export class FakeCoordinator {
  readonly clock: PausableClock;
  readonly #events: CoordinatorEvents;
  readonly #initialDelayMs: number;
  readonly offsets = new Map<string, Stored>();
  state: State = "Empty";
  generation = 0;
  /** When the last generation began. */
  begun = 0;
  isLoading = false;
  /** Members of another protocol, if there are any; they assign partitions in a way of their own. */
  others: { readonly description: GroupDescription; readonly assignment: Buffer } | undefined;
  #leader = "";
  #seats = new Map<string, Seat>();
  readonly #invited = new Set<string>();
  #round: Timer | undefined;
  /** A group that was empty waits for a while, for more than its first member. */
  #isWaiting = false;
  #snapshot: Snapshot = { generation: 0, leader: "", seats: [] };
  #ids = 0;

  constructor(clock: PausableClock, events: CoordinatorEvents, initialDelayMs = 0) {
    this.clock = clock;
    this.#events = events;
    this.#initialDelayMs = initialDelayMs;
  }

  get memberIds(): readonly string[] {
    return [...this.#seats.keys()];
  }

  describe(): GroupDescription {
    if (this.others !== undefined) return this.others.description;
    const error = this.isLoading ? "GROUP_LOAD_IN_PROGRESS" : undefined;
    const { size } = this.#seats;
    const isDivided = this.state === "Stable" || this.state === "CompletingRebalance";
    const what = { protocolType: size === 0 ? "" : "consumer", assignor: isDivided ? PROTOCOL : "" };
    return { error, state: this.state, protocol: "classic", ...what, members: size, clients: ["fake"] };
  }

  joinGroup(request: JoinRequest): JoinOutcome | Promise<JoinOutcome> {
    const { memberId, metadata, sessionTimeoutMs, rebalanceTimeoutMs } = request;
    const refusal = (error: string) => ({ error, generation: -1, leader: "", memberId, members: [] });
    if (this.isLoading) return refusal("GROUP_LOAD_IN_PROGRESS");
    if (memberId === "") {
      const invited = `member-${String(++this.#ids).padStart(4, "0")}`;
      this.#invited.add(invited);
      return { ...refusal("MEMBER_ID_REQUIRED"), memberId: invited };
    }
    const { promise, resolve } = Promise.withResolvers<JoinOutcome>();
    const seat = this.#seats.get(memberId);
    if (seat === undefined) {
      if (!this.#invited.delete(memberId)) return refusal("UNKNOWN_MEMBER_ID");
      const fresh = { memberId, sessionTimeoutMs, rebalanceTimeoutMs, metadata, assignment: NOTHING };
      this.#seats.set(memberId, { ...fresh, joining: resolve, syncing: undefined, expiry: undefined });
      this.#rebalance(`${memberId} is new`);
      return promise;
    }
    const changed = !seat.metadata.equals(metadata) || (this.state === "Stable" && memberId === this.#leader);
    if (this.state !== "PreparingRebalance" && !changed) {
      this.#renew(seat);
      return this.#outcomeFor(seat, this.state === "CompletingRebalance");
    }
    seat.metadata = metadata;
    seat.joining = resolve;
    this.#cancel(seat);
    this.#rebalance(`${memberId} joined again`);
    return promise;
  }

  syncGroup(request: SyncRequest): SyncOutcome | Promise<SyncOutcome> {
    const error = this.#refusal(request);
    const seat = this.#seats.get(request.memberId);
    if (error !== undefined || seat === undefined) return { error, assignment: NOTHING };
    if (this.state === "PreparingRebalance") return { error: "REBALANCE_IN_PROGRESS", assignment: NOTHING };
    if (this.others !== undefined) return { error: undefined, assignment: this.others.assignment };
    if (this.state === "Stable") {
      this.#renew(seat);
      return { error: undefined, assignment: seat.assignment };
    }
    const { promise, resolve } = Promise.withResolvers<SyncOutcome>();
    seat.syncing = resolve;
    this.#renew(seat);
    if (request.memberId === this.#leader) this.#becomeStable(request.assignments);
    return promise;
  }

  heartbeat(member: Membership): ErrorName {
    const error = this.#refusal(member);
    const seat = this.#seats.get(member.memberId);
    if (error !== undefined || seat === undefined) return error;
    this.#renew(seat);
    return this.state === "PreparingRebalance" ? "REBALANCE_IN_PROGRESS" : undefined;
  }

  leaveGroup(memberId: string): ErrorName {
    if (this.isLoading) return "GROUP_LOAD_IN_PROGRESS";
    const known = this.#invited.delete(memberId) || this.#seats.has(memberId);
    this.#remove(memberId, "left");
    return known ? undefined : "UNKNOWN_MEMBER_ID";
  }

  commitOffsets(commit: OffsetCommit): readonly PartitionOutcome[] {
    const inCompletion = this.state === "CompletingRebalance" ? "REBALANCE_IN_PROGRESS" : undefined;
    const refusal = this.#refusal(commit) ?? inCompletion;
    const seat = this.#seats.get(commit.memberId);
    if (refusal === undefined && seat !== undefined) this.#renew(seat);
    return commit.offsets.map(({ topic, partition, offset, metadata }): PartitionOutcome => {
      const error = refusal ?? (metadata.length > 4096 ? "OFFSET_METADATA_TOO_LARGE" : undefined);
      if (error === undefined) {
        this.#events.committed(commit.memberId, { topic, partition, offset, metadata });
        this.offsets.set(`${topic}/${partition}`, { offset, metadata });
      }
      return { topic, partition, error };
    });
  }

  fetchOffsets(partitions: readonly TopicPartition[]): FetchedOffsets {
    if (this.isLoading) return { error: "GROUP_LOAD_IN_PROGRESS", offsets: [] };
    const offsets = partitions.map(({ topic, partition }) => {
      const stored = this.offsets.get(`${topic}/${partition}`) ?? { offset: -1, metadata: "" };
      return { topic, partition, error: undefined, ...stored };
    });
    return { error: undefined, offsets };
  }

  /** Somebody removes a member by hand. */
  evict(memberId: string): void {
    this.#remove(memberId, "was removed");
  }

  /** Dies, and knows afterwards what was stable at last. Members whose answers were outstanding never hear of them. */
  fail(): void {
    this.#isWaiting = false;
    for (const seat of this.#seats.values()) this.#cancel(seat);
    this.#stopRound();
    this.#invited.clear();
    const { generation, leader, seats } = this.#snapshot;
    this.#seats = new Map(
      seats.map((seat) => [seat.memberId, { ...seat, joining: undefined, syncing: undefined, expiry: undefined }]),
    );
    this.generation = generation;
    this.#leader = leader;
    this.state = seats.length === 0 ? "Empty" : "Stable";
    this.isLoading = true;
  }

  /** Is a coordinator again, after `fail`. */
  load(): void {
    this.isLoading = false;
    for (const seat of this.#seats.values()) this.#renew(seat);
  }

  #refusal({ memberId, generation }: Pick<Membership, "memberId" | "generation">): ErrorName {
    if (this.isLoading) return "GROUP_LOAD_IN_PROGRESS";
    if (!this.#seats.has(memberId)) return "UNKNOWN_MEMBER_ID";
    return generation === this.generation ? undefined : "ILLEGAL_GENERATION";
  }

  #becomeStable(given: SyncRequest["assignments"]): void {
    const assignments = new Map(given.map(({ memberId, assignment }) => [memberId, assignment]));
    for (const seat of this.#seats.values()) seat.assignment = assignments.get(seat.memberId) ?? NOTHING;
    this.state = "Stable";
    this.#save();
    this.#events.log(`generation ${this.generation} is stable with ${this.memberIds.join(", ")}`);
    for (const seat of this.#seats.values()) {
      const { syncing } = seat;
      if (syncing === undefined) continue;
      seat.syncing = undefined;
      this.#renew(seat);
      syncing({ error: undefined, assignment: seat.assignment });
    }
  }

  #rebalance(why: string): void {
    if (this.state === "PreparingRebalance") {
      this.#completeIfAll();
      return;
    }
    this.#events.log(`rebalance: ${why}`);
    for (const seat of this.#seats.values()) {
      const { syncing } = seat;
      seat.syncing = undefined;
      if (syncing === undefined) continue;
      this.#renew(seat);
      syncing({ error: "REBALANCE_IN_PROGRESS", assignment: NOTHING });
    }
    this.#isWaiting = this.state === "Empty" && this.#initialDelayMs > 0;
    this.state = "PreparingRebalance";
    this.#startRound(() => this.#complete(), this.#isWaiting ? this.#initialDelayMs : this.#longestRebalanceMs());
    this.#completeIfAll();
  }

  #longestRebalanceMs(): number {
    return Math.max(...[...this.#seats.values()].map((seat) => seat.rebalanceTimeoutMs));
  }

  #completeIfAll(): void {
    if (this.#isWaiting) return;
    if ([...this.#seats.values()].every(({ joining }) => joining !== undefined)) this.#complete();
  }

  #complete(): void {
    this.#stopRound();
    this.#isWaiting = false;
    for (const seat of [...this.#seats.values()]) {
      if (seat.joining !== undefined) continue;
      this.#cancel(seat);
      this.#seats.delete(seat.memberId);
      this.#events.log(`${seat.memberId} did not join in time`);
    }
    this.generation++;
    this.begun = this.clock.monotonic();
    if (this.#seats.size === 0) {
      this.state = "Empty";
      this.#save();
      return;
    }
    this.state = "CompletingRebalance";
    if (!this.#seats.has(this.#leader)) this.#leader = this.memberIds[0] ?? "";
    for (const seat of this.#seats.values()) {
      const { joining } = seat;
      seat.joining = undefined;
      this.#renew(seat);
      joining?.(this.#outcomeFor(seat, true));
    }
    this.#startRound(() => {
      const late = this.state === "CompletingRebalance" ? [...this.#seats.values()] : [];
      for (const seat of late) if (seat.syncing === undefined) this.#remove(seat.memberId, "did not sync");
    }, this.#longestRebalanceMs());
  }

  #outcomeFor({ memberId }: Seat, withMembers: boolean): JoinOutcome {
    const isLeader = memberId === this.#leader;
    const members = withMembers && isLeader ? [...this.#seats.values()] : [];
    return {
      error: undefined,
      generation: this.generation,
      leader: this.#leader,
      memberId,
      members: members.map((seat) => ({ memberId: seat.memberId, metadata: seat.metadata })),
    };
  }

  #remove(memberId: string, why: string): void {
    const seat = this.#seats.get(memberId);
    if (seat === undefined) return;
    this.#cancel(seat);
    this.#seats.delete(memberId);
    this.#events.log(`${memberId} ${why}`);
    if (this.#seats.size === 0) {
      this.#stopRound();
      this.generation++;
      this.state = "Empty";
      this.#save();
    } else this.#rebalance(`${memberId} ${why}`);
  }

  /** A member that waits for an answer of ours is alive however long that takes. */
  #renew(seat: Seat): void {
    this.#cancel(seat);
    if (seat.joining !== undefined || seat.syncing !== undefined) return;
    seat.expiry = this.clock.schedule(() => this.#remove(seat.memberId, "expired"), seat.sessionTimeoutMs);
  }

  #cancel(seat: Seat): void {
    if (seat.expiry !== undefined) this.clock.cancel(seat.expiry);
    seat.expiry = undefined;
  }

  #startRound(end: () => void, ms: number): void {
    this.#stopRound();
    this.#round = this.clock.schedule(end, ms);
  }

  #stopRound(): void {
    if (this.#round !== undefined) this.clock.cancel(this.#round);
    this.#round = undefined;
  }

  #save(): void {
    const seats = [...this.#seats.values()].map(
      ({ memberId, sessionTimeoutMs, rebalanceTimeoutMs, metadata, assignment }) => ({
        memberId,
        sessionTimeoutMs,
        rebalanceTimeoutMs,
        metadata,
        assignment,
      }),
    );
    this.#snapshot = { generation: this.generation, leader: this.#leader, seats };
  }
}
