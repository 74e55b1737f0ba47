import type { Admin } from "kafkajs";
import type { SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import { DeclaredTopology } from "../../core/adapter-support.ts";
import { describeAddress } from "../../core/address.ts";
import { forEachAtOnce } from "../../core/concurrency.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Cluster } from "./cluster.ts";
import { isMissing, operationError } from "./errors.ts";
import { clientError } from "./kafkajs/errors.ts";
import { collisionName, groupName, topicName, withoutId } from "./names.ts";
import type { Settings } from "./options.ts";
import type { TopicMetadata } from "./port.ts";
import {
  INSPECTED,
  inspect,
  type Plan,
  type PlannedTopic,
  type Problem,
  planOf,
  specificationOf,
} from "./topology/plan.ts";
import { initializePosition, repairPosition } from "./topology/positions.ts";

/** Several callers may miss a topic at once, and again before the whole cluster knows the new one. */
const MIN_PAUSE_MS = 1_000;

/** A topology that waits to be declared. */
interface Asked {
  readonly topology: Topology;
  readonly resolve: (problems: readonly MessagingError[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Declares topologies, and recreates declared topics that are gone. */
export class TopologyRecovery {
  readonly #cluster: Cluster;
  readonly #settings: Settings;
  readonly #notice: (error: MessagingError) => void;
  /** What was declared with mode `create` and without problems: it may be recreated. */
  readonly #created = new DeclaredTopology();
  /** The names of these topics. */
  readonly #topics = new Set<string>();
  /** All topics that were declared without problems, by {@link collisionName}. */
  readonly #planned = new Map<string, PlannedTopic>();
  #asked: Asked[] = [];
  #isDeclaring = false;
  #running: Promise<void> | undefined;
  #lastEnd = Number.NEGATIVE_INFINITY;

  constructor(cluster: Cluster, settings: Settings, notice: (error: MessagingError) => void) {
    this.#cluster = cluster;
    this.#settings = settings;
    this.#notice = notice;
  }

  /**
   * See `Adapter.declare`. Declarations that arrive during another one are united; each caller gets its own problems.
   */
  declare(topology: Topology): Promise<readonly MessagingError[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly MessagingError[]>();
    this.#asked.push({ topology, resolve, reject });
    if (!this.#isDeclaring) void this.#declareAll();
    return promise;
  }

  async #declareAll(): Promise<void> {
    this.#isDeclaring = true;
    // Several callers may come in one turn.
    await Promise.resolve();
    for (let first = this.#asked[0]; first !== undefined; first = this.#asked[0]) {
      const { mode } = first.topology;
      const batch = this.#asked.filter(({ topology }) => topology.mode === mode);
      this.#asked = this.#asked.filter(({ topology }) => topology.mode !== mode);
      await this.#declareSome(mode, batch).catch((error: unknown) => {
        for (const { reject } of batch) reject(error);
      });
    }
    this.#isDeclaring = false;
  }

  async #declareSome(mode: Topology["mode"], batch: readonly Asked[]): Promise<void> {
    const all = new DeclaredTopology();
    for (const { topology } of batch) all.add(topology);
    const united: Topology = { ...all.topology, mode };
    const events = { made: () => {}, notice: this.#notice };
    const problems = await establish(this.#cluster, united, this.#settings, events, this.#planned);
    const byTopic = new Map<string, MessagingError[]>();
    for (const { topics: of, error } of problems) {
      for (const topic of of) byTopic.set(topic, [...(byTopic.get(topic) ?? []), error]);
    }
    for (const { topology, resolve } of batch) {
      const plan = planOf(topology, this.#settings);
      const names = [...plan.topics.map(({ name }) => name), ...plan.problems.flatMap(({ topics: of }) => of)];
      const own = new Set(names.flatMap((name) => byTopic.get(name) ?? []));
      if (own.size === 0) this.#learn(topology, plan.topics);
      resolve([...own]);
    }
  }

  #learn(topology: Topology, planned: readonly PlannedTopic[]): void {
    const { mode } = topology;
    if (mode === "none") return;
    if (mode === "create") this.#created.add(topology);
    for (const topic of planned) {
      this.#planned.set(collisionName(topic.name), topic);
      if (mode === "create") this.#topics.add(topic.name);
    }
  }

  /**
   * Recreates a missing topic if it was declared with mode `create`. Resolves with whether the topic exists. Never
   * rejects.
   */
  async restore(topic: string): Promise<boolean> {
    if (!this.#topics.has(topic)) return false;
    await this.restoreAll();
    return this.#cluster.topics([topic]).then(
      () => true,
      () => false,
    );
  }

  /** Recreates all missing topics, once for all concurrent callers. Never rejects. */
  restoreAll(): Promise<void> {
    if (this.#running === undefined && performance.now() - this.#lastEnd < MIN_PAUSE_MS) return Promise.resolve();
    this.#running ??= this.#restoreAll().finally(() => {
      this.#running = undefined;
      this.#lastEnd = performance.now();
    });
    return this.#running;
  }

  async #restoreAll(): Promise<void> {
    if (this.#created.isEmpty) return;
    try {
      const problems = await establish(this.#cluster, this.#created.topology, this.#settings, {
        made: (made) => this.#notice(madeAgain(made)),
        notice: this.#notice,
      });
      for (const { error } of problems) this.#notice(error);
    } catch (error) {
      if (isMessagingError(error) && error.code !== "closed") this.#notice(error);
    }
  }
}

function madeAgain(topics: readonly string[]): MessagingError {
  const names = topics.map((topic) => `"${topic}"`).join(", ");
  return new MessagingError(
    "not-found",
    `Kafka did not have ${names} any more; they were created again, and are empty: find out who deleted them`,
  );
}

/** What {@link establish} reports in addition to problems. */
interface EstablishEvents {
  /** These topics were created. */
  made(topics: readonly string[]): void;
  /** Reports a condition that people should know. */
  notice(error: MessagingError): void;
}

/**
 * Creates or verifies a topology. `others` are topics known from elsewhere, by `collisionName`. Resolves with all
 * problems; rejects if the cluster does not answer.
 */
async function establish(
  cluster: Cluster,
  topology: Topology,
  settings: Settings,
  events: EstablishEvents,
  others?: ReadonlyMap<string, PlannedTopic>,
): Promise<readonly Problem[]> {
  if (topology.mode === "none") return [];
  const work = new TopologySetup(cluster, planOf(topology, settings, others), settings, events);
  if (topology.mode === "create") await work.create();
  await work.verify();
  return work.problems;
}

class TopologySetup {
  readonly problems: Problem[];
  readonly #cluster: Cluster;
  readonly #plan: Plan;
  readonly #settings: Settings;
  readonly #events: EstablishEvents;
  /** Topics created here, with their metadata: not every broker knows them at once. */
  readonly #made = new Map<string, TopicMetadata>();
  /** Topics with a problem, which are not verified. */
  readonly #failed = new Set<string>();

  constructor(cluster: Cluster, plan: Plan, settings: Settings, events: EstablishEvents) {
    this.#cluster = cluster;
    this.#plan = plan;
    this.#settings = settings;
    this.#events = events;
    this.problems = [...plan.problems];
  }

  /**
   * A subscription's own topic is created after its position. So if that topic exists without a position, the position
   * was lost, and the subscription starts at the earliest event.
   */
  async create(): Promise<void> {
    const { topics, subscriptions } = this.#plan;
    const { nodes, topics: found } = await this.#cluster.metadata(topics.map(({ name }) => name));
    const brokers = nodes.length;
    const missing = new Set(found.filter(({ error }) => isMissing(error)).map(({ topic }) => topic));
    const isNew = ({ address }: SubscriptionDeclaration): boolean => missing.has(topicName(address));
    const owned = new Set(subscriptions.map(({ address }) => topicName(address)));
    const wanted = topics.filter(({ name }) => missing.has(name));
    await this.#make(
      wanted.filter(({ name }) => !owned.has(name)),
      brokers,
    );
    await forEachAtOnce(CONCURRENCY, subscriptions, async (subscription) => {
      if (this.#failed.has(subscription.address.topic)) this.#failed.add(topicName(subscription.address));
      else await this.#position(subscription, isNew(subscription));
    });
    await this.#make(
      wanted.filter(({ name }) => owned.has(name) && !this.#failed.has(name)),
      brokers,
    );
  }

  /** Inspects everything without a problem so far. */
  async verify(): Promise<void> {
    const topics = this.#plan.topics.filter(({ name }) => !this.#failed.has(name));
    const older = topics.filter(({ name }) => !this.#made.has(name));
    const { topics: found } = await this.#cluster.metadata(older.map(({ name }) => name));
    const byName = new Map(found.map((metadata) => [metadata.topic, metadata]));
    const existing = new Map<PlannedTopic, TopicMetadata>();
    for (const planned of topics) {
      const metadata = this.#made.get(planned.name) ?? byName.get(planned.name);
      const error = metadata === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : metadata.error;
      if (metadata !== undefined && error === undefined && metadata.id === "")
        this.#fail(planned.name, withoutId(planned.name));
      else if (metadata !== undefined && error === undefined) existing.set(planned, metadata);
      else this.#fail(planned.name, operationError(String(error), `look at ${describe(planned)}`, "try again"));
    }
    const all = [...existing];
    for (let from = 0; from < all.length; from += MAX_DESCRIBED) {
      await this.#inspect(all.slice(from, from + MAX_DESCRIBED));
    }
  }

  async #inspect(existing: readonly (readonly [PlannedTopic, TopicMetadata])[]): Promise<void> {
    const names = existing.map(([{ name }]) => name);
    const configurations = await this.#cluster.configurations(names, INSPECTED);
    for (const [planned, metadata] of existing) {
      const configuration = configurations.get(planned.name);
      if (isMessagingError(configuration)) this.#fail(planned.name, configuration);
      else if (configuration !== undefined) {
        const errors = inspect(planned, metadata, configuration, this.#settings);
        this.problems.push(...errors.map((error) => ({ topics: [planned.name], error })));
      }
    }
  }

  async #make(topics: readonly PlannedTopic[], brokers: number): Promise<void> {
    for (let from = 0; from < topics.length; from += MAX_PER_REQUEST) {
      await this.#makeSome(topics.slice(from, from + MAX_PER_REQUEST), brokers);
    }
  }

  async #makeSome(topics: readonly PlannedTopic[], brokers: number): Promise<void> {
    const specifications = topics.map((topic) => specificationOf(topic, brokers, this.#settings));
    const outcomes = await this.#cluster.createTopics(specifications);
    for (const { topic, error, message } of outcomes) {
      if (error === undefined) continue;
      const planned = topics.find(({ name }) => name === topic);
      const what = `create ${planned === undefined ? `topic "${topic}"` : describe(planned)}`;
      this.#fail(topic, operationError(error, what, "change what it refuses, or create the topic yourself", message));
    }
    const made = outcomes.filter(({ error }) => error === undefined).map(({ topic }) => topic);
    if (made.length === 0) return;
    for (const metadata of await this.#cluster.newTopics(made)) this.#made.set(metadata.topic, metadata);
    this.#events.made(made);
  }

  async #position({ address, from }: SubscriptionDeclaration, isNew: boolean): Promise<void> {
    try {
      if (isNew) await initializePosition(this.#cluster, address, from);
      else if (await repairPosition(this.#cluster, address))
        this.#events.notice(positionLost(describeAddress(address)));
    } catch (error) {
      if (!isMessagingError(error) || UNANSWERED.includes(error.code)) throw error;
      this.#fail(topicName(address), error);
    }
  }

  #fail(topic: string, problem: MessagingError): void {
    this.#failed.add(topic);
    this.problems.push({ topics: [topic], error: problem });
  }
}

/** Codes of an unreachable cluster; other errors are a problem of one subscription. */
const UNANSWERED: readonly string[] = ["unreachable", "timeout", "closed"];
/** A server creates them all before it answers. */
const MAX_PER_REQUEST = 50;
const MAX_DESCRIBED = 500;
/** How many positions are set at a time: each takes several requests. */
const CONCURRENCY = 8;

function describe({ name, what }: PlannedTopic): string {
  const topic = `topic "${name}"`;
  return what === topic ? topic : `${topic} (${what})`;
}

function positionLost(subscription: string): MessagingError {
  return new MessagingError(
    "not-found",
    `${subscription} had no position on Kafka any more, and continues at the earliest event kept. Kafka forgets the position of a group when its topic is deleted, and that of a group without consumers after offsets.retention.minutes: raise that to more than the longest pause`,
  );
}

/** Deletes the existing topics and consumer groups of a topology. */
export async function removeAll(admin: Admin, topology: Topology, settings: Settings): Promise<void> {
  const topics = planOf(topology, settings).topics.map(({ name }) => name);
  const work = [...topology.queues, ...topology.subscriptions].map(({ address }) => address);
  const sources = work.flatMap((of) => [of, { kind: "dead-letters", of } as const]);
  // The groups of delay forwarders have the names of their topics.
  const groups = new Set([...topics, ...sources.map((source) => groupName(source))]);
  try {
    await admin.connect();
    const existing = new Set(await admin.listTopics());
    const stale = topics.filter((topic) => existing.has(topic));
    if (stale.length > 0) await admin.deleteTopics({ topics: stale });
    const known = (await admin.listGroups()).groups.map(({ groupId }) => groupId);
    const left = known.filter((group) => groups.has(group));
    if (left.length > 0) await admin.deleteGroups(left);
  } catch (cause) {
    const what = `${topics.length} topics and their groups could not all be removed`;
    throw clientError("refused", `${what}, and the rest is to be removed by hand`, cause);
  } finally {
    await admin.disconnect();
  }
}
