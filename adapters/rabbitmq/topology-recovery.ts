import { setTimeout as sleep } from "node:timers/promises";
import type { Channel } from "amqplib";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, type Connection, openOperationChannel } from "./connection.ts";
import { checkExists, nameOf, type Resource } from "./declared-resources.ts";
import { DELIVERY_EXCHANGE, LEVELS, levelName, UNDELIVERED_EXCHANGE, UNDELIVERED_QUEUE } from "./delay-levels.ts";
import { NOT_FOUND, replyCode } from "./errors.ts";

/** Which queues and exchanges exist. */
interface Survey {
  readonly gone: readonly Resource[];
  /** Resources that this user may not check. */
  readonly refused: readonly Resource[];
  /** The numbers of ready messages on existing queues. */
  readonly ready: ReadonlyMap<Resource, number>;
}

/** Requests on one channel wait for each other, so several channels share the work. */
const MAX_CHANNELS = 4;

/** Checks which resources exist. Rejects if it could not check. */
export async function survey(
  link: Connection,
  resources: Iterable<Resource>,
  requestTimeoutMs: number,
): Promise<Survey> {
  const gone: Resource[] = [];
  const refused: Resource[] = [];
  const ready = new Map<Resource, number>();
  const queue = new Set(resources).values();
  const worker = async (): Promise<void> => {
    let channel: Channel | undefined;
    for (const resource of queue) {
      channel ??= await openOperationChannel(link, requestTimeoutMs);
      try {
        const count = await answered(link, requestTimeoutMs, `look for ${resource}`, checkExists(channel, resource));
        if (count !== undefined) ready.set(resource, count);
      } catch (error) {
        if (isMessagingError(error) || replyCode(error) === undefined) throw error;
        // The refusal closed the channel.
        channel = undefined;
        (replyCode(error) === NOT_FOUND ? gone : refused).push(resource);
      }
    }
    channel?.close().catch(() => {});
  };
  await Promise.all(Array.from({ length: MAX_CHANNELS }, worker));
  return { gone, refused, ready };
}

const LEVEL_NAMES: readonly string[] = Array.from({ length: LEVELS }, (_, level) => levelName(level));
const WAIT_QUEUES: ReadonlySet<Resource> = new Set(LEVEL_NAMES.map((name) => `queue ${name}` as const));
const DELAY_EXCHANGES: readonly Resource[] = [DELIVERY_EXCHANGE, ...LEVEL_NAMES].map(
  (name) => `exchange ${name}` as const,
);

/** All resources that delayed messages pass through or may end in. */
const DELAY_RESOURCES: readonly Resource[] = [
  ...DELAY_EXCHANGES,
  ...WAIT_QUEUES,
  `exchange ${UNDELIVERED_EXCHANGE}`,
  `queue ${UNDELIVERED_QUEUE}`,
];

/** How long another starting process may take between two steps. */
const BETWEEN_STEPS_MS = 1_000;

/**
 * Finds wait queues that were deleted, for example by a policy, while no process ran: their exchanges exist, and no
 * other process is creating them.
 */
export async function removedWaitQueues(link: Connection, requestTimeoutMs: number): Promise<readonly Resource[]> {
  const { gone } = await survey(link, DELAY_RESOURCES, requestTimeoutMs);
  const missing = gone.filter((resource) => WAIT_QUEUES.has(resource));
  if (missing.length === 0 || DELAY_EXCHANGES.some((exchange) => gone.includes(exchange))) return [];
  await sleep(BETWEEN_STEPS_MS);
  const still = await survey(link, WAIT_QUEUES, requestTimeoutMs);
  return still.gone.length === missing.length ? missing : [];
}

/** Notices for resources that were deleted and have been recreated. */
export function recreatedNotices(resources: readonly Resource[]): readonly MessagingError[] {
  const [first, ...others] = [...WAIT_QUEUES]
    .filter((resource) => resources.includes(resource))
    .map((resource) => `"${nameOf(resource)}"`);
  const texts = resources.filter((resource) => !WAIT_QUEUES.has(resource)).map(textOf);
  if (first !== undefined) {
    const what = others.length === 0 ? `wait queue ${first} was` : `wait queues ${[first, ...others].join(", ")} were`;
    const next = "Check that neither a policy (expires) nor an operator deletes queues named anybroker.delay.…";
    texts.unshift(`the ${what} deleted, and its delayed messages are lost; recreated. ${next}`);
  }
  return texts.map((text) => new MessagingError("not-found", text));
}

function textOf(resource: Resource): string {
  const name = nameOf(resource);
  return resource.startsWith("queue ")
    ? `the queue "${name}" was deleted, and its messages are lost; recreated. Check that neither a policy (expires) nor an operator deletes it`
    : `the exchange "${name}" was deleted; recreated, with the bindings of this process. Events that were published meanwhile were not accepted`;
}

/** The notice for a deleted resource that this process may not recreate. */
function missingNotice(resource: Resource): MessagingError {
  const text = WAIT_QUEUES.has(resource)
    ? "delayed messages are stuck before it"
    : "messages for it stay where they are, or are refused";
  return new MessagingError(
    "not-found",
    `RabbitMQ no longer has the ${resource.replace(" ", ' "')}", so ${text}; ${DECLARE_IT}`,
  );
}

/** What the watch needs from its session. */
interface WatchHost {
  readonly requestTimeoutMs: number;
  link(): Connection | undefined;
  /** The resources that receivers and their messages need. */
  consumed(): readonly Resource[];
  isDeclared(resource: Resource): boolean;
  /** Recreates what was declared. Never rejects. */
  restore(): Promise<unknown>;
  /** Does what is too expensive for each check: bindings and policies. Never rejects. */
  maintain(): Promise<void>;
  notice(error: MessagingError): void;
}

const CHECK_EVERY_MS = 60_000;
const CHECKS_PER_MAINTENANCE = 5;
const UNDELIVERED: Resource = `queue ${UNDELIVERED_QUEUE}`;

/**
 * Checks periodically that resources exist whose deletion RabbitMQ does not report: those of delayed messages, and the
 * dead letters and topics of consumed queues. An operator or a policy may delete them.
 */
export class TopologyWatch {
  readonly #host: WatchHost;
  readonly #noticed = new Set<Resource>();
  /** Resources that this user may not check; the server logs every refusal. */
  readonly #refused = new Set<Resource>();
  #timer: NodeJS.Timeout | undefined;
  #delaysUsed = false;
  #checkedAt = Number.NEGATIVE_INFINITY;
  #checking = false;
  #checks = 0;
  #undelivered: number | undefined;
  #isOver = false;

  constructor(host: WatchHost) {
    this.#host = host;
  }

  start(): void {
    this.#schedule();
  }

  /** A delayed message was sent: checks at once, unless it did so recently. */
  delayed(): void {
    if (this.#delaysUsed) return;
    this.#delaysUsed = true;
    if (performance.now() - this.#checkedAt >= CHECK_EVERY_MS) void this.#check();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#isOver) return;
    // Processes that started together should not check together.
    this.#timer = setTimeout(
      () => void this.#check(true).finally(() => this.#schedule()),
      CHECK_EVERY_MS * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  async #check(regularly = false): Promise<void> {
    const link = this.#host.link();
    if (link === undefined || this.#checking) return;
    this.#checking = true;
    const wanted = [...this.#host.consumed(), ...(this.#delaysUsed ? DELAY_RESOURCES : [])];
    const resources = wanted.filter((resource) => !this.#refused.has(resource));
    if (this.#delaysUsed) this.#checkedAt = performance.now();
    this.#delaysUsed = false;
    try {
      const { gone, refused, ready } = await survey(link, resources, this.#host.requestTimeoutMs);
      if (this.#isOver) return;
      for (const resource of refused) this.#refused.add(resource);
      for (const resource of resources) if (!gone.includes(resource)) this.#noticed.delete(resource);
      const isMore = this.#countUndelivered(ready.get(UNDELIVERED));
      if (isMore || gone.some((resource) => this.#host.isDeclared(resource))) await this.#host.restore();
      for (const resource of gone) this.#notice(resource);
      if (regularly && ++this.#checks % CHECKS_PER_MAINTENANCE === 0) await this.#host.maintain();
    } catch {
      // The connection is lost; the session restores it.
    } finally {
      this.#checking = false;
    }
  }

  /** Returns whether more delayed messages were undeliverable since the last check: a binding may be gone. */
  #countUndelivered(count: number | undefined): boolean {
    if (count === undefined) return false;
    const before = this.#undelivered ?? count;
    this.#undelivered = count;
    if (count <= before) return false;
    this.#host.notice(
      new MessagingError(
        "unroutable",
        `${count - before} delayed messages had no destination when they were due; they are on the queue "${UNDELIVERED_QUEUE}"`,
      ),
    );
    return true;
  }

  #notice(resource: Resource): void {
    if (this.#host.isDeclared(resource) || this.#noticed.has(resource)) return;
    this.#noticed.add(resource);
    this.#host.notice(missingNotice(resource));
  }
}
