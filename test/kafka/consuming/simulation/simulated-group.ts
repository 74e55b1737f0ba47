import type { CommitOutcome, GroupMember, RebalanceListener } from "../../../../adapters/kafka/group/coordinator.ts";
import { partitionKey } from "../../../../adapters/kafka/names.ts";
import type { CommittedOffset, PartitionOffset, TopicPartition } from "../../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../../core/errors.ts";
import type { Judge } from "./judge.ts";
import type { SimulatedCluster } from "./simulated-cluster.ts";
import type { SimulatedLog } from "./simulated-log.ts";
import type { SimulatedProcess } from "./simulated-process.ts";

type Commit = PartitionOffset & { readonly metadata: string };

/** How long a dead member is waited for. */
const SESSION_MS = 2_000;
/** How long a member may take to let a partition go. */
const REVOKE_MS = 20_000;

/** A partition in somebody's hands, from assignment to the end of it. */
interface OwnedPartition {
  readonly key: string;
  readonly log: SimulatedLog;
  readonly member: SimulatedMember;
  leaving: boolean;
}

/** The coordinator of a group: whose the partitions are, and what is committed. */
export class SimulatedGroup {
  readonly cluster: SimulatedCluster;
  readonly judge: Judge;
  readonly stored = new Map<string, Pick<CommittedOffset, "offset" | "metadata">>();
  readonly #members = new Set<SimulatedMember>();
  readonly #holds = new Map<string, OwnedPartition>();

  constructor(cluster: SimulatedCluster, judge: Judge) {
    this.cluster = cluster;
    this.judge = judge;
  }

  join(process: SimulatedProcess, owner: RebalanceListener): GroupMember {
    const member = new SimulatedMember(this, process, owner);
    this.cluster.time.schedule(
      () => {
        if (member.closed || process.dead) return;
        this.#members.add(member);
        this.divide();
      },
      this.cluster.prng.between(0, 50),
    );
    return member;
  }

  holds(member: SimulatedMember): readonly OwnedPartition[] {
    return [...this.#holds.values()].filter((hold) => hold.member === member);
  }

  hold(key: string): OwnedPartition | undefined {
    return this.#holds.get(key);
  }

  /** Gives what is nobody's to somebody. */
  divide(): void {
    const members = [...this.#members];
    if (members.length === 0) return;
    for (const [key, log] of this.cluster.logs)
      if (!this.#holds.has(key)) this.#give(log, this.cluster.prng.pick(members));
  }

  #give(log: SimulatedLog, member: SimulatedMember): void {
    const key = partitionKey(log);
    const hold: OwnedPartition = { key, log, member, leaving: false };
    this.#holds.set(key, hold);
    const stored = this.stored.get(key);
    if (stored !== undefined) this.judge.takenOver(log, stored);
    this.cluster.time.schedule(
      () => {
        if (member.knows && this.#holds.get(key) === hold) member.assigned(log);
      },
      this.cluster.prng.between(0, 20),
    );
  }

  /** Asks a member to let a partition go to another. */
  async move(): Promise<void> {
    const { prng, time } = this.cluster;
    const holds = [...this.#holds.values()].filter(({ member, leaving }) => !leaving && member.knows);
    if (holds.length === 0) return;
    const hold = prng.pick(holds);
    const { member, log, key } = hold;
    const others = [...this.#members].filter((other) => other !== member);
    // With nobody else it comes back at once: the group changed its mind.
    const next = others.length === 0 ? member : prng.pick(others);
    hold.leaving = true;
    let ended = false;
    const end = (late: boolean): void => {
      if (ended || this.#holds.get(key) !== hold) return;
      ended = true;
      this.#end(hold);
      if (late && !member.process.dead) member.lost([hold], "it took too long");
      if (this.#members.has(next)) this.#give(log, next);
      else this.divide();
    };
    time.schedule(() => end(true), REVOKE_MS);
    await member.revoke(log);
    if (!member.process.dead) end(false);
  }

  /** The coordinator has not heard of a member for too long; the member learns of it later. */
  expire(): void {
    const { prng, time } = this.cluster;
    const members = [...this.#members].filter((member) => member.knows);
    if (members.length === 0) return;
    const member = prng.pick(members);
    this.#members.delete(member);
    const holds = this.holds(member);
    for (const hold of holds) {
      member.process.lostHold(hold.key);
      this.#end(hold);
    }
    this.divide();
    time.schedule(
      () => {
        if (member.closed || member.process.dead) return;
        member.lost(holds, "the session ran out");
        this.#members.add(member);
        this.divide();
      },
      prng.between(0, 3_000),
    );
  }

  killed(member: SimulatedMember): void {
    for (const { key } of this.holds(member)) member.process.lostHold(key);
    this.cluster.time.schedule(() => this.leave(member), this.cluster.prng.between(100, SESSION_MS));
  }

  leave(member: SimulatedMember): void {
    this.#members.delete(member);
    for (const hold of this.holds(member)) this.#end(hold);
    this.divide();
  }

  #end({ key }: OwnedPartition): void {
    this.#holds.delete(key);
  }

  /** A commit arrives. */
  apply(commit: Commit, hold: OwnedPartition | undefined): CommitOutcome {
    const key = partitionKey(commit);
    if (hold === undefined || this.#holds.get(key) !== hold) return "fenced";
    this.judge.committed(commit, this.stored.get(key), hold.log);
    this.stored.set(key, { offset: commit.offset, metadata: commit.metadata });
    return "committed";
  }
}

/** A member as its process sees it. */
export class SimulatedMember implements GroupMember {
  readonly complete = Promise.resolve();
  readonly process: SimulatedProcess;
  readonly #group: SimulatedGroup;
  readonly #owner: RebalanceListener;
  closed = false;

  constructor(group: SimulatedGroup, process: SimulatedProcess, owner: RebalanceListener) {
    this.#group = group;
    this.process = process;
    this.#owner = owner;
  }

  /** Whether it can be told something. */
  get knows(): boolean {
    return !this.closed && !this.process.dead;
  }

  assigned(log: SimulatedLog): void {
    this.process.begins(partitionKey(log));
    this.#owner.assigned([log]);
  }

  revoke(log: SimulatedLog): Promise<void> {
    return this.#owner.revoke([log]);
  }

  lost(holds: readonly OwnedPartition[], why: string): void {
    this.#owner.lost(
      holds.map(({ log }) => log),
      new MessagingError("unreachable", why),
    );
  }

  commit(offsets: readonly Commit[]): Promise<readonly CommitOutcome[]> {
    const { cluster } = this.#group;
    const { prng, time } = cluster;
    // As it is when it is asked for: another one in between may have got further.
    const holds = offsets.map((commit) => {
      const hold = this.#group.hold(partitionKey(commit));
      return hold?.member === this ? hold : undefined;
    });
    return new Promise((resolve) => {
      const [arrives, answered] = [!prng.chance(cluster.faults.unanswered), !prng.chance(cluster.faults.unanswered)];
      time.schedule(
        () => {
          const outcomes = offsets.map((commit, index) => {
            if (prng.chance(cluster.faults.refused)) return "failed";
            return arrives ? this.#group.apply(commit, holds[index]) : "failed";
          });
          time.schedule(
            () => {
              if (this.process.dead) return;
              if (this.closed) resolve(outcomes.map(() => "fenced"));
              else resolve(answered ? outcomes : outcomes.map(() => "failed"));
            },
            prng.between(0, 4),
          );
        },
        prng.between(0, 4),
      );
    });
  }

  committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    const { prng, time } = this.#group.cluster;
    return new Promise((resolve, reject) => {
      time.schedule(
        () => {
          if (this.process.dead) return;
          if (this.closed) {
            reject(new MessagingError("closed", "the member is closed"));
            return;
          }
          const found = partitions.map((at): CommittedOffset => {
            this.process.begins(partitionKey(at));
            const stored = this.#group.stored.get(partitionKey(at));
            return { ...at, error: undefined, offset: stored?.offset ?? -1, metadata: stored?.metadata ?? "" };
          });
          time.schedule(
            () => {
              if (!this.process.dead) resolve(found);
            },
            prng.between(0, 5),
          );
        },
        prng.between(0, 20),
      );
    });
  }

  refresh(): void {}

  close(): Promise<void> {
    this.closed = true;
    return new Promise((resolve) => {
      this.#group.cluster.time.schedule(() => {
        this.#group.leave(this);
        if (!this.process.dead) resolve();
      }, 2);
    });
  }
}
