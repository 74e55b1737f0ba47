import { setTimeout as wait } from "node:timers/promises";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { isMissing, isPassing, operationError } from "./errors.ts";
import { identityOf, proveTopics, replacedMeanwhile, type TopicIdentity, withoutId } from "./names.ts";
import type {
  ClusterMetadata,
  CommittedOffset,
  ErrorName,
  KafkaConnection,
  PartitionOffset,
  TopicId,
  TopicMetadata,
  TopicOutcome,
  TopicPartition,
  TopicSpecification,
  WantedOffset,
} from "./port.ts";

const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 1_000;

/** The result of an attempt: a value, or an error that is worth another attempt. */
type Try<Result> = { readonly result: Result } | { readonly again: MessagingError };

/** A topic that exists, with its identity. */
interface IdentifiedTopic extends TopicMetadata {
  readonly identity: TopicIdentity;
}

/** A question about a partition. With a topic id, only about the topic of that id. */
type OfTopic<Question extends TopicPartition> = Question & { readonly topicId?: TopicId };

/**
 * Asks the cluster, each question at the right node: the leader of a partition or the coordinator of a group. While
 * leadership moves it asks again for `requestTimeoutMs`, then rejects with the last error.
 */
export class Cluster {
  readonly #connection: KafkaConnection;
  readonly #requestTimeoutMs: number;
  readonly #ended: AbortSignal;

  /** When `ended` aborts, pending questions reject with `closed`. */
  constructor(connection: KafkaConnection, requestTimeoutMs: number, ended: AbortSignal) {
    this.#connection = connection;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#ended = ended;
  }

  /** The brokers, and the topics with their lasting errors. */
  metadata(topics: readonly string[]): Promise<ClusterMetadata> {
    return this.#until(async () => {
      const found = await this.#connection.metadata(topics);
      const passing = found.topics.find(({ error }) => isPassing(error));
      if (passing !== undefined) return { again: leaderless(passing.topic) };
      // A broker that has just started may not know the others yet, nor itself.
      return found.nodes.length === 0 ? { again: brokerless() } : { result: found };
    });
  }

  /** The names of all topics that this user may see. */
  topicNames(): Promise<readonly string[]> {
    return this.#until(async () => {
      const { nodes, topics } = await this.#connection.allTopics();
      return nodes.length === 0 ? { again: brokerless() } : { result: topics.map(({ topic }) => topic) };
    });
  }

  /**
   * Topics that exist, with their leaders. Rejects with `not-found` if one does not, and with `unsupported` for one without
   * an id.
   */
  topics(names: readonly string[]): Promise<readonly IdentifiedTopic[]> {
    return this.#until(async () => {
      const found = await this.#connection.metadata(names);
      const { topics } = found;
      const waiting = topics.find(({ error, partitions }) => isPassing(error) || partitions.some(isLeaderless));
      for (const { topic, error } of topics) if (error !== undefined && !isPassing(error)) throw refused(error, topic);
      if (waiting !== undefined) return { again: leaderless(waiting.topic) };
      return { result: topics.map((topic) => ({ ...topic, identity: identify(found, topic) })) };
    });
  }

  /** As {@link topics}, for topics that were just created: not every broker knows them at once. */
  newTopics(names: readonly string[]): Promise<readonly TopicMetadata[]> {
    return this.#until(async () => {
      const { topics } = await this.#connection.metadata(names);
      const waiting = topics.find(({ error, partitions }) => error !== undefined || partitions.some(isLeaderless));
      if (waiting === undefined) return { result: topics };
      const { error, topic } = waiting;
      if (error !== undefined && !isPassing(error) && !isMissing(error)) throw refused(error, topic);
      return { again: leaderless(topic) };
    });
  }

  /** The configurations by topic, or an error for a topic that must not be seen. */
  async configurations(
    topics: readonly string[],
    names: readonly string[],
  ): Promise<ReadonlyMap<string, ReadonlyMap<string, string> | MessagingError>> {
    const found = new Map<string, ReadonlyMap<string, string> | MessagingError>();
    await this.#until(async () => {
      const pending = topics.filter((topic) => !found.has(topic));
      let again: MessagingError | undefined;
      for (const { topic, error, values } of await this.#connection.topicConfigurations(pending, names)) {
        if (error === undefined) found.set(topic, values);
        else {
          const failure = operationError(error, `describe the configuration of topic "${topic}"`, "try again");
          // Right after its creation not every broker knows a topic.
          if (isPassing(error) || isMissing(error)) again = failure;
          else found.set(topic, failure);
        }
      }
      return again === undefined ? { result: undefined } : { again };
    });
    return found;
  }

  /** The outcome of each topic. A topic that exists already is not an error. */
  async createTopics(topics: readonly TopicSpecification[]): Promise<readonly TopicOutcome[]> {
    const outcomes = new Map<string, TopicOutcome>();
    await this.#until(async () => {
      const pending = topics.filter(({ topic }) => !outcomes.has(topic));
      let again: MessagingError | undefined;
      for (const outcome of pending.length === 0 ? [] : await this.#connection.createTopics(pending)) {
        const { topic, error, message } = outcome;
        if (error === "TOPIC_ALREADY_EXISTS") outcomes.set(topic, { topic, error: undefined, message: undefined });
        else if (isPassing(error, message))
          again = operationError(String(error), `create topic "${topic}"`, "try again", message);
        else outcomes.set(topic, outcome);
      }
      return again === undefined ? { result: undefined } : { again };
    });
    return [...outcomes.values()];
  }

  /**
   * One offset per question, in order; -1 where no record is as late as the time asked for. Rejects with `conflict` if a
   * topic is not the one of the id given.
   */
  async listOffsets(wanted: readonly OfTopic<WantedOffset>[]): Promise<readonly number[]> {
    const found = new Map<WantedOffset, number>();
    await this.#atLeaders(
      wanted,
      (question) => found.has(question),
      async (node, questions) => {
        const outcomes = await this.#connection.listOffsets(node, questions);
        return questions.map((question) => {
          const outcome = outcomes.find((one) => isSame(one, question));
          if (outcome?.error === undefined && outcome !== undefined) found.set(question, outcome.offset);
          return outcome === undefined ? "REQUEST_TIMED_OUT" : outcome.error;
        });
      },
      "list the offsets",
    );
    return wanted.map((question) => found.get(question) as number);
  }

  /** Deletes all records before each offset. Rejects with `conflict` if a topic is not the one of the id given. */
  async deleteRecords(before: readonly OfTopic<PartitionOffset>[]): Promise<void> {
    const done = new Set<PartitionOffset>();
    await this.#atLeaders(
      before,
      (one) => done.has(one),
      async (node, some) => {
        const outcomes = await this.#connection.deleteRecords(node, some);
        return some.map((one) => {
          const outcome = outcomes.find((other) => isSame(other, one));
          const error = outcome === undefined ? "REQUEST_TIMED_OUT" : outcome.error;
          // The log already begins behind that offset.
          if (error === undefined || error === "OFFSET_OUT_OF_RANGE") done.add(one);
          return error === "OFFSET_OUT_OF_RANGE" ? undefined : error;
        });
      },
      "delete records",
    );
  }

  /** The committed offsets of a group, in the order asked, for the topics that had these names; -1 for none. */
  committed(group: string, partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    const what = `fetch the offsets of group "${group}"`;
    return this.#atCoordinator(group, what, async (node) => {
      const { error, offsets } = await this.#connection.fetchOffsets(node, group, partitions);
      if (error !== undefined) return { error };
      const failed = offsets.find((offset) => offset.error !== undefined);
      if (failed !== undefined) return { error: failed.error };
      const none = (partition: TopicPartition): CommittedOffset => ({
        ...partition,
        error: undefined,
        offset: -1,
        metadata: "",
      });
      return { result: partitions.map((one) => offsets.find((other) => isSame(other, one)) ?? none(one)) };
    });
  }

  /** Commits for a group without members. Resolves with false if the group has members. */
  commitForEmptyGroup(
    group: string,
    offsets: readonly (PartitionOffset & { readonly metadata: string })[],
  ): Promise<boolean> {
    const what = `commit offsets for group "${group}"`;
    return this.#atCoordinator(group, what, async (node) => {
      const outcomes = await this.#connection.commitOffsets(node, {
        group,
        memberId: "",
        generation: -1,
        offsets,
      });
      const error = outcomes.find((outcome) => outcome.error !== undefined)?.error;
      if (error !== undefined && HAS_MEMBERS.includes(error)) return { result: false };
      return error === undefined ? { result: true } : { error };
    });
  }

  /** How many members a group has; 0 for one that does not exist. */
  members(group: string): Promise<number> {
    return this.#atCoordinator(group, `describe group "${group}"`, async (node) => {
      const { error, members } = await this.#connection.describeGroup(node, group);
      if (error === "GROUP_ID_NOT_FOUND") return { result: 0 };
      return error === undefined ? { result: members } : { error };
    });
  }

  async #atCoordinator<Result>(
    group: string,
    what: string,
    ask: (node: number) => Promise<{ readonly result: Result } | { readonly error: ErrorName }>,
  ): Promise<Result> {
    return this.#until(async () => {
      const { error, node } = await this.#connection.coordinator(group);
      const answer = error === undefined ? await ask(node) : { error };
      if ("result" in answer) return answer;
      const failure = operationError(String(answer.error), what, "try again");
      // A topic that was just made may not be known to the coordinator yet.
      if (isPassing(answer.error) || isMissing(answer.error)) return { again: failure };
      throw failure;
    });
  }

  /** Asks the leader of each item; `ask` answers with one error or none per item. */
  async #atLeaders<Item extends OfTopic<TopicPartition>>(
    items: readonly Item[],
    isDone: (item: Item) => boolean,
    ask: (node: number, items: readonly Item[]) => Promise<readonly ErrorName[]>,
    what: string,
  ): Promise<void> {
    await this.#until(async () => {
      const pending = items.filter((item) => !isDone(item));
      if (pending.length === 0) return { result: undefined };
      const topics = await this.topics([...new Set(pending.map(({ topic }) => topic))]);
      for (const { topic, topicId } of pending) {
        const found = topics.find((one) => one.topic === topic);
        if (topicId !== undefined && found?.id !== topicId) throw replacedMeanwhile(topic);
      }
      let again: MessagingError | undefined;
      const byLeader = Map.groupBy(pending, (item) => leaderOf(topics, item));
      const asked = [...byLeader].map(async ([node, some]) => {
        const errors = await this.#askProven(node, some, ask);
        some.forEach(({ topic, partition }, index) => {
          const error = errors[index];
          if (error === undefined) return;
          const failure = operationError(error, `${what} of partition ${partition} of topic "${topic}"`, "try again");
          if (!isPassing(error) && !isMissing(error)) throw failure;
          again = failure;
        });
      });
      for (const end of await Promise.allSettled(asked)) {
        if (end.status === "fulfilled") continue;
        if (!isTransport(end.reason)) throw end.reason;
        again = end.reason;
      }
      return again === undefined ? { result: undefined } : { again };
    });
  }

  /** Asks a leader, after it proved that it has the topics of the given ids. */
  async #askProven<Item extends OfTopic<TopicPartition>>(
    node: number,
    items: readonly Item[],
    ask: (node: number, items: readonly Item[]) => Promise<readonly ErrorName[]>,
  ): Promise<readonly ErrorName[]> {
    const meant = items.flatMap((item) => (item.topicId === undefined ? [] : [{ ...item, topicId: item.topicId }]));
    const proofs = await proveTopics(this.#connection, node, meant);
    const errors = new Map(meant.map(({ topic, partition }, index) => [`${topic}/${partition}`, proofs[index]]));
    const errorOf = ({ topic, partition }: Item): ErrorName => errors.get(`${topic}/${partition}`);
    const proven = items.filter((item) => errorOf(item) === undefined);
    const answers = proven.length === 0 ? [] : await ask(node, proven);
    return items.map((item) => errorOf(item) ?? answers[proven.indexOf(item)]);
  }

  /** Tries until there is a result, a lasting error or a timeout. */
  async #until<Result>(attempt: () => Promise<Try<Result>>): Promise<Result> {
    const deadline = performance.now() + this.#requestTimeoutMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      if (this.#ended.aborted) throw new MessagingError("closed", "the Kafka adapter was closed meanwhile");
      let end: Try<Result>;
      try {
        end = await attempt();
      } catch (error) {
        if (!isTransport(error)) throw error;
        end = { again: error };
      }
      if ("result" in end) return end.result;
      if (performance.now() + pauseMs > deadline) throw end.again;
      await wait(pauseMs, undefined, { signal: this.#ended }).catch(() => {});
    }
  }
}

const HAS_MEMBERS: readonly string[] = [
  "UNKNOWN_MEMBER_ID",
  "ILLEGAL_GENERATION",
  "REBALANCE_IN_PROGRESS",
  "NON_EMPTY_GROUP",
];

/** Whether no node answered, so that another one may. */
function isTransport(error: unknown): error is MessagingError {
  return isMessagingError(error, "unreachable") || isMessagingError(error, "timeout");
}

function isSame(one: TopicPartition, other: TopicPartition): boolean {
  return one.partition === other.partition && one.topic === other.topic;
}

function isLeaderless({ leader, error }: { readonly leader: number; readonly error: ErrorName }): boolean {
  return leader < 0 || error === "LEADER_NOT_AVAILABLE";
}

function leaderOf(topics: readonly TopicMetadata[], { topic, partition }: TopicPartition): number {
  const found = topics.find((one) => one.topic === topic)?.partitions.find((one) => one.partition === partition);
  if (found !== undefined) return found.leader;
  throw new MessagingError("not-found", `topic "${topic}" on Kafka has no partition ${partition}`);
}

function identify(cluster: ClusterMetadata, topic: TopicMetadata): TopicIdentity {
  if (topic.id === "") throw withoutId(topic.topic);
  return identityOf(cluster, topic);
}

function refused(error: string, topic: string): MessagingError {
  return operationError(error, `look at topic "${topic}"`, "look at the brokers' logs");
}

function brokerless(): MessagingError {
  return new MessagingError("unreachable", "Kafka has no broker that serves yet; see that it runs");
}

function leaderless(topic: string): MessagingError {
  return new MessagingError(
    "unreachable",
    `topic "${topic}" on Kafka has partitions without a leader; see that its brokers run`,
  );
}
