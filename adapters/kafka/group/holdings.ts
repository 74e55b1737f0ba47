import type { Clock, Timer } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { TopicPartition } from "../port.ts";
import type { MemberOwner } from "./contract.ts";
import { answerError } from "./errors.ts";
import { keyOf } from "./partitions.ts";
import type { Assignment } from "./protocol.ts";

/** A partition for as long as it is ours without a break. */
export interface Hold extends TopicPartition {
  /** Being given up. */
  leaving: boolean;
}

/** What holdings need of the member around them. */
export interface HoldingsHost {
  /** Resolves when no commit is under way of those begun so far. */
  commitsEnded(): Promise<void>;
  /** What is held is less than the group believes. */
  gaveUp(): void;
  /** What is held is all that the group has for us at present. */
  complete(): void;
}

/** Which partitions are ours, and the giving up of those that others are to have. */
export class Holdings {
  readonly #owner: MemberOwner;
  readonly #host: HoldingsHost;
  readonly #clock: Clock;
  readonly #longestDrainMs: number;
  readonly #holds = new Map<string, Hold>();
  readonly #drains = new Set<Timer>();
  #assigned: ReadonlySet<string> = new Set();

  constructor(owner: MemberOwner, host: HoldingsHost, clock: Clock, longestDrainMs: number) {
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
