import type { Clock } from "../../../core/clock.ts";
import type { TopicMetadata } from "../port.ts";
import type { TopicView } from "./protocol.ts";

/** A server that has just started may not know a topic yet: only one missing for so long is believed to be gone. */
const GONE_AFTER_MS = 10_000;

/** Members may say anything: of all topics together that are missing, no more partitions are believed in. */
const MOST_BELIEVED = 200_000;

/** Asks the cluster about topics. */
export type AskTopics = (topics: readonly string[]) => Promise<readonly TopicMetadata[]>;

/** What is known of the topics of a group. */
export class TopicDirectory {
  readonly #clock: Clock;
  readonly #ask: AskTopics;
  readonly #known = new Map<string, number>();
  readonly #missingSince = new Map<string, number>();

  constructor(clock: Clock, ask: AskTopics) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** Whether a topic is missing, or was when last asked. */
  get isUncertain(): boolean {
    return this.#missingSince.size > 0;
  }

  /** That it has at least so many partitions is known from elsewhere. */
  learn(topic: string, partitions: number): void {
    if (partitions === 0 || this.#missingSince.has(topic)) return;
    this.#known.set(topic, Math.max(this.#known.get(topic) ?? 0, partitions));
  }

  /** Asks the cluster. Rejects if it does not answer. */
  async look(topics: readonly string[]): Promise<readonly TopicView[]> {
    const answers = new Map((await this.#ask(topics)).map((topic) => [topic.topic, topic]));
    let believable = MOST_BELIEVED;
    return topics.map((topic) => {
      const answer = answers.get(topic);
      const view = this.#view(topic, answer, believable);
      if (answer?.partitions.length !== view.partitions) believable -= view.partitions;
      return view;
    });
  }

  /** `most`: how many partitions are believed in that the cluster does not know. */
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
