import type { Clock, Timer } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { CommittedOffset, Membership, PartitionOffset, TopicPartition } from "../port.ts";
import type { WakeSignal } from "./coordinator.ts";
import {
  answerError,
  type CommitOutcome,
  type CoordinatorLink,
  isFenced,
  isUncommittable,
  type MemberOwner,
  requestError,
} from "./coordinator.ts";
import { type Assignment, keyOf } from "./protocol.ts";

/** A partition for as long as it is ours without a break. */
export interface Hold extends TopicPartition {
  /** Being given up. */
  leaving: boolean;
}

/** What assignment need of the member around them. */
interface AssignmentHost {
  /** Resolves when no commit is under way of those begun so far. */
  commitsEnded(): Promise<void>;
  /** What is held is less than the group believes. */
  gaveUp(): void;
  /** What is held is all that the group has for us at present. */
  complete(): void;
}

/** Which partitions are ours, and the giving up of those that others are to have. */
export class GroupAssignment {
  readonly #owner: MemberOwner;
  readonly #host: AssignmentHost;
  readonly #clock: Clock;
  readonly #longestDrainMs: number;
  readonly #holds = new Map<string, Hold>();
  readonly #drains = new Set<Timer>();
  #assigned: ReadonlySet<string> = new Set();

  constructor(owner: MemberOwner, host: AssignmentHost, clock: Clock, longestDrainMs: number) {
    this.#owner = owner;
    this.#host = host;
    this.#clock = clock;
    this.#longestDrainMs = longestDrainMs;
  }

  get staying(): readonly TopicPartition[] {
    return [...this.#holds.values()].filter(({ leaving }) => !leaving);
  }

  get leaving(): readonly TopicPartition[] {
    return [...this.#holds.values()].filter(({ leaving }) => leaving);
  }

  /** The hold on a partition, if it is ours. */
  of(partition: TopicPartition): Hold | undefined {
    return this.#holds.get(keyOf(partition));
  }

  /** Does as the group says. */
  adopt({ assigned, taken, awaited, topics }: Assignment): void {
    const problems = new Map(topics.map(({ topic, problem }) => [topic, problem]));
    this.#assigned = new Set(assigned.map(keyOf));
    for (const [topic, partitions] of Map.groupBy(taken, ({ topic }) => topic)) {
      const problem = problems.get(topic);
      if (problem) this.lose(partitions, answerError(problem, `read ${topic}`));
      else if (this.lose(partitions, new MessagingError("conflict", `another member has partitions of ${topic}`))) {
        this.#host.gaveUp();
      }
    }
    const unwanted = [...this.#holds.values()].filter((hold) => !hold.leaving && !this.#assigned.has(keyOf(hold)));
    // Each by itself: one in which a handler takes its time holds up no other.
    for (const hold of unwanted) void this.#giveUp(hold);
    this.#take(assigned);
    if (awaited === 0) this.#host.complete();
  }

  /** Gives partitions up at once, if they are ours. Returns whether any was. */
  lose(partitions: readonly TopicPartition[], cause: MessagingError): boolean {
    const lost = partitions.filter((partition) => this.#holds.delete(keyOf(partition)));
    if (lost.length > 0) this.#owner.lost(lost.map(plain), cause);
    return lost.length > 0;
  }

  /** Gives everything up at once. */
  loseAll(cause: MessagingError): void {
    this.#assigned = new Set();
    this.lose([...this.#holds.values()], cause);
  }

  /** Nothing is ours any more, and nobody is told. */
  end(): void {
    this.#holds.clear();
    for (const timer of this.#drains) this.#clock.cancel(timer);
  }

  #take(partitions: readonly TopicPartition[]): void {
    const added = partitions.filter((partition) => !this.#holds.has(keyOf(partition))).map(plain);
    for (const partition of added) this.#holds.set(keyOf(partition), { ...partition, leaving: false });
    if (added.length > 0) this.#owner.assigned(added);
  }

  async #giveUp(hold: Hold): Promise<void> {
    hold.leaving = true;
    const inTime = await this.#drained(hold);
    if (this.of(hold) !== hold) return;
    if (inTime) this.#holds.delete(keyOf(hold));
    else this.lose([hold], this.#overdue(hold));
    // Meanwhile the group may have left it with us after all. Then it begins anew.
    if (this.#assigned.has(keyOf(hold))) this.#take([hold]);
    else this.#host.gaveUp();
  }

  /** Resolves with whether the owner let go in time. */
  #drained(hold: Hold): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#clock.schedule(() => {
        this.#drains.delete(timer);
        resolve(false);
      }, this.#longestDrainMs);
      this.#drains.add(timer);
      const end = async (): Promise<void> => {
        await this.#host.commitsEnded();
        this.#clock.cancel(timer);
        this.#drains.delete(timer);
        resolve(true);
      };
      this.#owner.revoke([plain(hold)]).then(end, end);
    });
  }

  #overdue({ topic, partition }: Hold): MessagingError {
    return new MessagingError(
      "timeout",
      `"${topic}", partition ${partition}, which others are to have, was not let go within ${this.#longestDrainMs} ms; let handlers end sooner, or raise the rebalance timeout`,
    );
  }
}

function plain({ topic, partition }: TopicPartition): TopicPartition {
  return { topic, partition };
}

/** An offset to commit, with text beside it. */
export type Commit = PartitionOffset & { readonly metadata: string };

/** What commits need of the member around them. */
export interface CommitsHost {
  isClosed(): boolean;
  /** The membership to commit as; undefined while there is none, or its assignment is not known yet. */
  membership(): Membership | undefined;
  holdOf(partition: TopicPartition): Hold | undefined;
  /** The coordinator does not know the membership. */
  fenced(membership: Membership, name: string): void;
  /** A commit may yet be carried out; the next generation of the group rules that out. */
  renewGeneration(): void;
  report(cause: MessagingError): void;
  /** The time to wait before attempt number `attempt`, from 1. */
  backoffMs(attempt: number): number;
}

/** A commit of one partition on its way. */
interface Pending {
  readonly commit: Commit;
  readonly hold: Hold | undefined;
  outcome: CommitOutcome | undefined;
}

/** Commits offsets as a member, and reads what stands committed. */
export class Commits {
  readonly #group: string;
  readonly #link: CoordinatorLink;
  readonly #host: CommitsHost;
  readonly #clock: Clock;
  readonly #longestMs: number;
  /** Rung when the membership changed, and at the end. */
  readonly #changed: WakeSignal;
  readonly #underWay = new Set<Promise<unknown>>();
  /** In this generation a commit may yet be done that was not answered. */
  #doubtful = -1;

  constructor(
    group: string,
    link: CoordinatorLink,
    host: CommitsHost,
    clock: Clock,
    longestMs: number,
    changed: WakeSignal,
  ) {
    this.#group = group;
    this.#link = link;
    this.#host = host;
    this.#clock = clock;
    this.#longestMs = longestMs;
    this.#changed = changed;
  }

  /** Resolves when the commits begun so far have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async commit(offsets: readonly Commit[]): Promise<readonly CommitOutcome[]> {
    const pending = offsets.map((commit): Pending => ({ commit, hold: this.#host.holdOf(commit), outcome: undefined }));
    const work = this.#commit(pending);
    this.#underWay.add(work);
    await work;
    this.#underWay.delete(work);
    return pending.map(({ outcome }) => outcome ?? "failed");
  }

  async committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    const what = `tell the offsets of group ${this.#group}`;
    for (let attempt = 1; ; attempt++) {
      if (this.#host.isClosed()) throw new MessagingError("closed", `the member of group ${this.#group} is closed`);
      try {
        const { error, offsets } = await this.#link.ask(what, (connection, node) =>
          connection.fetchOffsets(node, this.#group, partitions),
        );
        const found = new Map(offsets.map((offset) => [keyOf(offset), offset]));
        const answers = partitions.map((partition) => found.get(keyOf(partition)));
        const problem = error ?? answers.find((answer) => answer?.error !== undefined)?.error;
        if (problem === undefined && !answers.includes(undefined)) return answers as readonly CommittedOffset[];
        this.#link.forget();
        throw answerError(problem ?? "INCOMPLETE_ANSWER", what);
      } catch (error) {
        if (attempt > 1 && !this.#host.isClosed()) this.#host.report(requestError(error, what));
      }
      if (!this.#host.isClosed()) await this.#changed.wait(this.#host.backoffMs(attempt));
    }
  }

  async #commit(pending: readonly Pending[]): Promise<void> {
    const end = this.#clock.monotonic() + this.#longestMs;
    for (let attempt = 1; ; attempt++) {
      const membership = this.#host.membership();
      for (const item of pending) if (!this.#isOurs(item)) item.outcome ??= "fenced";
      const open = pending.filter(({ outcome }) => outcome === undefined);
      const left = end - this.#clock.monotonic();
      if (open.length === 0 || left <= 0) return;
      if (membership?.generation === this.#doubtful) this.#host.renewGeneration();
      else if (membership !== undefined) await this.#send(open, membership);
      if (open.every(({ outcome }) => outcome !== undefined)) return;
      await this.#changed.wait(Math.min(left, this.#host.backoffMs(attempt)));
    }
  }

  /** Ours since the commit was asked for: in between somebody else could have come further. */
  #isOurs({ commit, hold }: Pending): boolean {
    return hold !== undefined && this.#host.holdOf(commit) === hold && !this.#host.isClosed();
  }

  async #send(open: readonly Pending[], membership: Membership): Promise<void> {
    const what = `commit the offsets of group ${this.#group}`;
    try {
      const answers = await this.#link.ask(what, (connection, node) =>
        connection.commitOffsets(node, { ...membership, offsets: open.map(({ commit }) => commit) }),
      );
      const errors = new Map(answers.map((answer) => [keyOf(answer), answer.error]));
      for (const item of open) {
        const key = keyOf(item.commit);
        if (errors.has(key)) this.#judge(item, errors.get(key), membership, what);
      }
    } catch {
      // The server may get to it later, and even after another that was sent later.
      this.#doubtful = membership.generation;
    }
  }

  #judge(item: Pending, error: string | undefined, membership: Membership, what: string): void {
    if (error === undefined) {
      item.outcome = "committed";
    } else if (isFenced(error)) {
      this.#host.fenced(membership, error);
    } else if (isUncommittable(error)) {
      item.outcome = "failed";
      this.#host.report(answerError(error, what));
    } else if (error !== "REBALANCE_IN_PROGRESS") {
      this.#link.forget();
    }
  }
}
