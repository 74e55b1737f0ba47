import type { Topology } from "../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Cluster } from "./cluster.ts";
import type { Settings } from "./options.ts";
import { establish } from "./topology/establish.ts";
import { planOf } from "./topology/plan.ts";

/** Many may miss something at once, and again before the whole cluster knows what was made. */
const LEAST_PAUSE_MS = 1_000;

/** Declares topologies, and what was to be created once more when it is gone. */
export class Restoring {
  readonly #cluster: Cluster;
  readonly #settings: Settings;
  readonly #notice: (error: MessagingError) => void;
  /** What may be made again; once each. */
  readonly #topologies = new Map<string, Topology>();
  /** The names of all topics in them. */
  readonly #topics = new Set<string>();
  #running: Promise<void> | undefined;
  #lastEnd = Number.NEGATIVE_INFINITY;

  constructor(cluster: Cluster, settings: Settings, notice: (error: MessagingError) => void) {
    this.#cluster = cluster;
    this.#settings = settings;
    this.#notice = notice;
  }

  /** See `Adapter.declare`. */
  async declare(topology: Topology): Promise<readonly MessagingError[]> {
    const problems = await establish(this.#cluster, topology, this.#settings, {
      made: () => {},
      notice: this.#notice,
    });
    if (topology.mode === "create") {
      this.#topologies.set(JSON.stringify(topology), topology);
      for (const { name } of planOf(topology, this.#settings).topics) this.#topics.add(name);
    }
    return problems;
  }

  /** Makes a topic again that is gone, if it was declared so. Resolves with whether it stands. Never rejects. */
  async restore(topic: string): Promise<boolean> {
    if (!this.#topics.has(topic)) return false;
    await this.restoreAll();
    return this.#cluster.topics([topic]).then(
      () => true,
      () => false,
    );
  }

  /** Declares everything again that was to be created, once for all who ask meanwhile. Never rejects. */
  restoreAll(): Promise<void> {
    if (this.#running === undefined && performance.now() - this.#lastEnd < LEAST_PAUSE_MS) return Promise.resolve();
    this.#running ??= this.#restoreAll().finally(() => {
      this.#running = undefined;
      this.#lastEnd = performance.now();
    });
    return this.#running;
  }

  async #restoreAll(): Promise<void> {
    try {
      for (const topology of this.#topologies.values()) {
        const problems = await establish(this.#cluster, topology, this.#settings, {
          made: (topics) => this.#notice(madeAgain(topics)),
          notice: this.#notice,
        });
        for (const problem of problems) this.#notice(problem);
      }
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
