import type { Clock, Timer } from "../../../core/clock.ts";
import type { JoinOutcome, SyncRequest, TopicMetadata } from "../port.ts";
import { assign } from "./assignment.ts";
import { decodeSubscription, encodeAssignment, type TopicView } from "./protocol.ts";

/** A broker that has just started may not know a topic: it counts as gone only after this time. */
const GONE_AFTER_MS = 10_000;

/** The most partitions of missing topics that members' claims are trusted for. */
const MAX_BELIEVED = 200_000;

/** Asks the cluster for topic metadata. */
type AskTopics = (topics: readonly string[]) => Promise<readonly TopicMetadata[]>;

/** The known topics of a group. */
class TopicCache {
  readonly #clock: Clock;
  readonly #ask: AskTopics;
  readonly #known = new Map<string, number>();
  readonly #missingSince = new Map<string, number>();

  constructor(clock: Clock, ask: AskTopics) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** Whether a topic was missing at the last request. */
  get isUncertain(): boolean {
    return this.#missingSince.size > 0;
  }

  /** Learns from a claim that a topic has at least so many partitions. */
  learn(topic: string, partitions: number): void {
    if (partitions === 0 || this.#missingSince.has(topic)) return;
    this.#known.set(topic, Math.max(this.#known.get(topic) ?? 0, partitions));
  }

  /** Asks the cluster. Rejects without an answer. */
  async refresh(topics: readonly string[]): Promise<readonly TopicView[]> {
    const answers = new Map((await this.#ask(topics)).map((topic) => [topic.topic, topic]));
    let believable = MAX_BELIEVED;
    return topics.map((topic) => {
      const answer = answers.get(topic);
      const view = this.#view(topic, answer, believable);
      if (answer?.partitions.length !== view.partitions) believable -= view.partitions;
      return view;
    });
  }

  /** `most`: how many partitions may be trusted that the cluster does not know. */
  #view(topic: string, answer: TopicMetadata | undefined, most: number): TopicView {
    const partitions = answer?.partitions.length ?? 0;
    if (partitions > 0) {
      this.#missingSince.delete(topic);
      this.#known.set(topic, partitions);
      return { topic, partitions, problem: "" };
    }
    const since = this.#missingSince.get(topic) ?? this.#clock.monotonic();
    this.#missingSince.set(topic, since);
    const known = this.#known.get(topic);
    if (known !== undefined && known <= most && this.#clock.monotonic() - since < GONE_AFTER_MS) {
      return { topic, partitions: known, problem: "" };
    }
    this.#known.delete(topic);
    return { topic, partitions: 0, problem: answer?.error ?? "UNKNOWN_TOPIC_OR_PARTITION" };
  }
}

/** What a topic watch reports. */
interface TopicWatchEvents {
  /** The topics changed since the partitions were divided. */
  changed(): void;
  /** The topics did not change; some may be missing. */
  unchanged(topics: readonly TopicView[]): void;
}

const CHECK_EVERY_MS = 30_000;
/** Milliseconds between checks while a topic is missing. */
const WHILE_MISSING_MS = 2_000;
const MIN_CHECK_INTERVAL_MS = 1_000;

/** The leader's part: divides partitions, and checks whether they must be divided again. */
export class TopicWatch {
  readonly #clock: Clock;
  readonly #directory: TopicCache;
  readonly #events: TopicWatchEvents;
  /** The topics as last divided. */
  #topics: readonly TopicView[] = [];
  #isLeader = false;
  #checkedAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  /** Runs until the next requested check. */
  #pendingCheck: Timer | undefined;
  #isStopped = false;

  constructor(clock: Clock, ask: AskTopics, events: TopicWatchEvents) {
    this.#clock = clock;
    this.#directory = new TopicCache(clock, ask);
    this.#events = events;
  }

  /** Divides the partitions. Rejects without metadata. */
  async divide({ members, memberId: own }: JoinOutcome): Promise<SyncRequest["assignments"]> {
    const claimants = members.map(({ memberId, metadata }) => ({ memberId, ...decodeSubscription(metadata) }));
    for (const { held, leaving } of claimants) {
      for (const { topic, partition } of [...held, ...leaving]) this.#directory.learn(topic, partition + 1);
    }
    const topics = new Set(claimants.flatMap((claimant) => claimant.topics));
    const views = await this.#refresh([...topics].sort());
    return [...assign(claimants, views)].map(([memberId, assignment]) => {
      // This member watches all topics.
      const complete = memberId === own ? { ...assignment, topics: views } : assignment;
      return { memberId, assignment: encodeAssignment(complete) };
    });
  }

  /** A generation began. Its leader checks the topics periodically. */
  begin(topics: readonly TopicView[], isLeader: boolean): void {
    this.#topics = topics;
    this.#isLeader = isLeader;
    for (const { topic, partitions } of topics) this.#directory.learn(topic, partitions);
    this.#schedule();
  }

  /** Checks now, or a second after the last check. */
  refresh(): void {
    if (this.#isStopped || this.#pendingCheck !== undefined) return;
    const ms = this.#checkedAt + MIN_CHECK_INTERVAL_MS - this.#clock.monotonic();
    if (ms <= 0) void this.#compare();
    else this.#pendingCheck = this.#clock.schedule(() => this.#checkNow(), ms);
  }

  #checkNow(): void {
    this.#pendingCheck = undefined;
    void this.#compare();
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#pendingCheck !== undefined) this.#clock.cancel(this.#pendingCheck);
    this.#isLeader = false;
    this.#topics = [];
    this.#schedule();
  }

  #refresh(topics: readonly string[]): Promise<readonly TopicView[]> {
    this.#checkedAt = this.#clock.monotonic();
    return this.#directory.refresh(topics);
  }

  async #compare(): Promise<void> {
    const before = this.#topics;
    try {
      const now = await this.#refresh(before.map(({ topic }) => topic));
      if (before !== this.#topics) return;
      // The same topics in the same order.
      if (JSON.stringify(now) === JSON.stringify(before)) this.#events.unchanged(before);
      else this.#events.changed();
    } catch {
      // Other parts report that the cluster does not answer.
    }
    if (before === this.#topics) this.#schedule();
  }

  #schedule(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    const ms = this.#directory.isUncertain ? WHILE_MISSING_MS : CHECK_EVERY_MS;
    this.#timer = this.#isLeader ? this.#clock.schedule(() => void this.#compare(), ms) : undefined;
  }
}
