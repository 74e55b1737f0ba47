import { partitionKey } from "../../../adapters/kafka/names.ts";
import { Prng } from "../../simulation/prng.ts";
import { VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeCluster } from "./fake-cluster.ts";
import { type ConsumerTimes, FakeConsumer } from "./fake-consumer.ts";
import { FakeCoordinator } from "./fake-coordinator.ts";
import { PausableClock } from "./pausable-clock.ts";

const TIMES: ConsumerTimes = {
  sessionTimeoutMs: 10_000,
  rebalanceTimeoutMs: 15_000,
  drainMs: 500,
  commitEveryMs: 300,
};

/** A cluster, the consumers of one group, and whoever watches that no two have the same partition. */
export class World {
  readonly time = new VirtualTime();
  readonly random: Prng;
  readonly coordinator: FakeCoordinator;
  readonly cluster: FakeCluster;
  readonly consumers: FakeConsumer[] = [];
  readonly violations: string[] = [];
  readonly log: string[] = [];

  constructor(seed: number | string, topics: Readonly<Record<string, number>>, initialDelayMs = 0) {
    this.random = new Prng(`${seed}`);
    const log = (text: string): void => this.say(text);
    this.coordinator = new FakeCoordinator(
      new PausableClock(this.time),
      { log, committed: (memberId, offset) => this.#onCommitted(memberId, offset) },
      initialDelayMs,
    );
    this.cluster = new FakeCluster(this.time, this.coordinator, topics);
  }

  get running(): readonly FakeConsumer[] {
    return this.consumers.filter(({ isClosed, isRunning }) => isRunning && !isClosed);
  }

  say(text: string): void {
    this.log.push(`${this.time.now.toFixed(0)} ${text}`);
  }

  join(times: Partial<ConsumerTimes> = {}, topics: readonly string[] = [...this.cluster.topics.keys()]): FakeConsumer {
    const name = `consumer-${this.consumers.length + 1}`;
    const consumer = new FakeConsumer(name, this.cluster, topics, { ...TIMES, ...times }, this.random.fork(name), {
      log: (text) => this.say(text),
      took: (taker, keys) => this.#onTook(taker, keys),
    });
    this.say(`${name} begins`);
    this.consumers.push(consumer);
    return consumer;
  }

  async pass(ms: number): Promise<void> {
    await this.until(() => false, ms);
  }

  /** Resolves with whether it came true within a time. */
  async until(condition: () => boolean, ms = 120_000): Promise<boolean> {
    let isOver = false;
    this.time.schedule(() => {
      isOver = true;
    }, ms);
    await this.time.until(() => isOver || condition(), Number.POSITIVE_INFINITY);
    return condition();
  }

  /** Every partition has one consumer, and none has two more than another, of any topic and in all. */
  isBalanced(): boolean {
    const { running } = this;
    if (running.length === 0 || running.some(({ works }) => [...works.values()].some((work) => work.isRevoked)))
      return false;
    const topics = [...this.cluster.topics.keys()];
    const of = (topic: string): number[] =>
      running.map(({ works }) => [...works.values()].filter((work) => work.topic === topic).length);
    const all = running.map(({ works }) => works.size);
    return (
      topics.every((topic) => sum(of(topic)) === this.cluster.topics.get(topic) && spread(of(topic)) <= 1) &&
      spread(all) <= 1
    );
  }

  /** Balanced, and the coordinator sees the same members. */
  isCalm(): boolean {
    const { state, memberIds, isLoading, clock } = this.coordinator;
    const isServing = this.cluster.isUp && !isLoading && !clock.isPaused;
    return isServing && state === "Stable" && memberIds.length === this.running.length && this.isBalanced();
  }

  /** Who has what, by name. */
  shares(): ReadonlyMap<string, readonly string[]> {
    return new Map(this.running.map(({ name, works }) => [name, [...works.keys()].sort()]));
  }

  #onTook(taker: FakeConsumer, keys: readonly string[]): void {
    for (const other of this.running) {
      if (other === taker) continue;
      for (const key of keys) {
        if (other.works.has(key)) this.#violated(`${taker.name} took ${key} while ${other.name} had it`);
      }
    }
  }

  #onCommitted(memberId: string, offset: { topic: string; partition: number; offset: number; metadata: string }): void {
    const key = partitionKey(offset);
    const before = this.coordinator.offsets.get(key);
    if (before !== undefined && before.offset > offset.offset) {
      this.#violated(`${key} was committed from ${before.offset} back to ${offset.offset} by ${memberId}`);
    }
    const others = this.running.filter(({ name, works }) => name !== offset.metadata && works.has(key));
    for (const { name } of others) this.#violated(`${offset.metadata} committed ${key} while ${name} had it`);
  }

  #violated(text: string): void {
    this.say(`VIOLATION ${text}`);
    this.violations.push(text);
  }
}

function sum(counts: readonly number[]): number {
  return counts.reduce((one, other) => one + other, 0);
}

function spread(counts: readonly number[]): number {
  return Math.max(...counts) - Math.min(...counts);
}
