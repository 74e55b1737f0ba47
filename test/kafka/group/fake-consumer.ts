import type { GroupMember, RebalanceListener } from "../../../adapters/kafka/group/coordinator.ts";
import { openMember } from "../../../adapters/kafka/group/member.ts";
import { partitionKey } from "../../../adapters/kafka/names.ts";

import type { TopicPartition } from "../../../adapters/kafka/port.ts";
import type { Timer } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { Prng } from "../../simulation/prng.ts";
import { cut, type FakeCluster, goodLine, type SocketGroup } from "./fake-cluster.ts";
import { PausableClock } from "./pausable-clock.ts";

/** What a consumer does with a partition while it has it. */
interface Work extends TopicPartition {
  position: number | undefined;
  isRevoked: boolean;
}

export interface ConsumerTimes {
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  /** How long letting go takes; `never` is forever. */
  readonly drainMs: number | "never";
  /** How often something is committed. */
  readonly commitEveryMs: number;
}

export interface ConsumerEvents {
  log(text: string): void;
  /** Right after it believes that these are its own. */
  took(consumer: FakeConsumer, keys: readonly string[]): void;
}

/** A process with a member of the group, which goes forward in its partitions and commits. */
export class FakeConsumer implements RebalanceListener {
  readonly name: string;
  readonly line: SocketGroup;
  readonly clock: PausableClock;
  readonly member: GroupMember;
  /** What it believes to have. */
  readonly works = new Map<string, Work>();
  readonly failures: MessagingError[] = [];
  readonly lostKeys: string[] = [];
  readonly revokedKeys: string[] = [];
  callsAfterClose = 0;
  isClosed = false;
  isDead = false;
  readonly #times: ConsumerTimes;
  readonly #events: ConsumerEvents;
  readonly #random: Prng;
  #committing: Promise<unknown> | undefined;
  #timer: Timer | undefined;

  constructor(
    name: string,
    cluster: FakeCluster,
    topics: readonly string[],
    times: ConsumerTimes,
    random: Prng,
    events: ConsumerEvents,
  ) {
    this.name = name;
    this.#times = times;
    this.#events = events;
    this.#random = random;
    this.clock = new PausableClock(cluster.time);
    this.line = goodLine(random.fork("line"), (run) => this.clock.run(run));
    this.member = openMember({
      client: cluster.client(this.line),
      group: "orders",
      topics,
      sessionTimeoutMs: times.sessionTimeoutMs,
      rebalanceTimeoutMs: times.rebalanceTimeoutMs,
      listener: this,
      clock: this.clock,
      random: random.fork("member"),
    });
    this.#workLater();
  }

  get isRunning(): boolean {
    return !this.isDead && !this.clock.isPaused;
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.works.clear();
    if (this.#timer !== undefined) this.clock.cancel(this.#timer);
    await this.member.close();
    this.isDead = true;
  }

  /** Without a word. */
  kill(): void {
    this.isDead = true;
    this.clock.kill();
    cut(this.line);
    this.line.weather = "refused";
  }

  assigned(partitions: readonly TopicPartition[]): void {
    this.#count();
    const keys = partitions.map(partitionKey);
    this.#events.log(`${this.name} took ${keys.join(" ")}`);
    for (const partition of partitions) {
      const work: Work = { ...partition, position: undefined, isRevoked: false };
      this.works.set(partitionKey(partition), work);
      void this.#begin(work);
    }
    this.#events.took(this, keys);
  }

  async revoke(partitions: readonly TopicPartition[]): Promise<void> {
    this.#count();
    const keys = partitions.map(partitionKey);
    this.#events.log(`${this.name} is to let go ${keys.join(" ")}`);
    this.revokedKeys.push(...keys);
    const works = keys.flatMap((key) => this.works.get(key) ?? []);
    for (const work of works) work.isRevoked = true;
    const { drainMs } = this.#times;
    if (drainMs === "never") await new Promise(() => undefined);
    else await new Promise<void>((resolve) => void this.clock.schedule(resolve, drainMs * this.#random.fraction()));
    await this.#committing;
    await this.#commit(works.filter((work) => this.works.get(partitionKey(work)) === work));
    this.#events.log(`${this.name} let go ${keys.join(" ")}`);
    for (const work of works) if (this.works.get(partitionKey(work)) === work) this.works.delete(partitionKey(work));
  }

  lost(partitions: readonly TopicPartition[], cause: MessagingError): void {
    this.#count();
    const keys = partitions.map(partitionKey);
    this.#events.log(`${this.name} lost ${keys.join(" ")} (${cause.message})`);
    this.lostKeys.push(...keys);
    for (const key of keys) this.works.delete(key);
  }

  failed(cause: MessagingError): void {
    this.#count();
    this.failures.push(cause);
    this.#events.log(`${this.name} has no membership (${cause.message})`);
  }

  #count(): void {
    if (this.isClosed) this.callsAfterClose++;
  }

  async #begin(work: Work): Promise<void> {
    const [found] = await this.member.committed([work]).catch(() => []);
    if (found !== undefined) work.position = Math.max(found.offset, 0);
  }

  #workLater(): void {
    if (this.isClosed) return;
    this.#timer = this.clock.schedule(
      () => {
        for (const work of this.works.values()) if (!work.isRevoked && work.position !== undefined) work.position++;
        this.#committing ??= this.#commit([...this.works.values()]).finally(() => {
          this.#committing = undefined;
        });
        this.#workLater();
      },
      this.#times.commitEveryMs * (0.5 + this.#random.fraction()),
    );
  }

  async #commit(works: readonly Work[]): Promise<void> {
    const offsets = works.flatMap(({ topic, partition, position }) =>
      position === undefined ? [] : [{ topic, partition, offset: position, metadata: this.name }],
    );
    if (offsets.length > 0) await this.member.commit(offsets);
  }
}
