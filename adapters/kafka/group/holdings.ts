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
  adopt({ assigned, taken, topics }: Assignment): void {
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
    if (unwanted.length > 0) void this.#giveUp(unwanted);
    this.#take(assigned);
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

  async #giveUp(holds: readonly Hold[]): Promise<void> {
    for (const hold of holds) hold.leaving = true;
    const inTime = await this.#drained(holds);
    const left = holds.filter((hold) => this.of(hold) === hold);
    if (inTime) for (const hold of left) this.#holds.delete(keyOf(hold));
    else this.lose(left, this.#overdue());
    // Meanwhile the group may have left some with us after all. They begin anew.
    const regained = left.filter((hold) => this.#assigned.has(keyOf(hold)));
    this.#take(regained);
    if (regained.length < left.length) this.#host.gaveUp();
  }

  /** Resolves with whether the owner let go in time. */
  #drained(holds: readonly Hold[]): Promise<boolean> {
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
      this.#owner.revoke(holds.map(plain)).then(end, end);
    });
  }

  #overdue(): MessagingError {
    return new MessagingError(
      "timeout",
      `partitions that others are to have were not let go within ${this.#longestDrainMs} ms; let handlers end sooner, or raise the rebalance timeout`,
    );
  }
}

function plain({ topic, partition }: TopicPartition): TopicPartition {
  return { topic, partition };
}
