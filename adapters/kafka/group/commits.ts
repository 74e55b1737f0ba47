import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { CommittedOffset, Membership, PartitionOffset, TopicPartition } from "../port.ts";
import type { Bell } from "./bell.ts";
import type { CommitOutcome } from "./contract.ts";
import type { CoordinatorLink } from "./coordinator-link.ts";
import { answerError, isFenced, isUncommittable, requestError } from "./errors.ts";
import type { Hold } from "./holdings.ts";
import { keyOf } from "./partitions.ts";

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
  readonly #changed: Bell;
  readonly #underWay = new Set<Promise<unknown>>();
  /** In this generation a commit may yet be done that was not answered. */
  #doubtful = -1;

  constructor(group: string, link: CoordinatorLink, host: CommitsHost, clock: Clock, longestMs: number, changed: Bell) {
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
