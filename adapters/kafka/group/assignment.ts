import type { Clock, Timer } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { partitionKey } from "../names.ts";
import type { CommittedOffset, Membership, PartitionOffset, TopicPartition } from "../port.ts";
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
import type { Assignment } from "./protocol.ts";

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
    const what = `tell the offsets of group ${this.#group}`;
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
