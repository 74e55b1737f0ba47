import type { Topology } from "../../../core/adapter.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { Clients } from "../clients.ts";
import type { Settings } from "../options.ts";
import type { Registry } from "../registry.ts";
import { Problems } from "./problems.ts";
import { Queues } from "./queues.ts";
import { Subscriptions } from "./subscriptions.ts";
import { Topics } from "./topics.ts";
import { WorkQueues } from "./work-queues.ts";

/** Makes queues, topics and subscriptions, or looks whether they stand. */
export class TopologyKeeper {
  readonly #work: WorkQueues;
  readonly #topics: Topics;
  readonly #subscriptions: Subscriptions;

  /** `notice` is told what people should know of what was changed. */
  constructor(clients: Clients, registry: Registry, settings: Settings, notice: (error: MessagingError) => void) {
    const queues = new Queues(clients, registry, settings);
    this.#work = new WorkQueues(queues, settings.maxReceives);
    this.#topics = new Topics(clients, registry, settings);
    this.#subscriptions = new Subscriptions(clients, registry, queues, this.#work, notice);
  }

  /** Every problem found. Rejects with `unreachable` if it could not look. */
  async declare({ mode, queues, topics, subscriptions }: Topology): Promise<readonly MessagingError[]> {
    if (mode === "none") return [];
    const create = mode === "create";
    const problems = new Problems();
    await Promise.all([
      ...queues.map(({ address, ordered }) => this.#work.declare(address, ordered, create, problems)),
      ...topics.map(({ address, ordered }) => problems.collect(this.#topics.declare(address, ordered, create))),
    ]);
    await Promise.all(subscriptions.map((subscription) => this.#subscriptions.declare(subscription, create, problems)));
    return problems.all;
  }
}
