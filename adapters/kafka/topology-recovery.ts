import type { Topology } from "../../core/adapter.ts";
import { DeclaredTopology } from "../../core/adapter-support.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Cluster } from "./cluster.ts";
import { collisionName } from "./names.ts";
import type { Settings } from "./options.ts";
import { establish } from "./topology/establish.ts";
import { type PlannedTopic, planOf } from "./topology/plan.ts";

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
    `Kafka did not have ${names} any more; made again, and empty: find out who deleted what stood there`,
  );
}
