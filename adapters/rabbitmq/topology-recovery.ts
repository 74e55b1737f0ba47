import { setTimeout as sleep } from "node:timers/promises";
import type { Channel } from "amqplib";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, type Connection, openChannel } from "./connection.ts";
import type { Resource } from "./declared-resources.ts";
import { DELIVERY_EXCHANGE, LEVELS, levelName, UNDELIVERED_EXCHANGE, UNDELIVERED_QUEUE } from "./delay-levels.ts";
import { NOT_FOUND, replyCode } from "./errors.ts";

/** What was found of some queues and exchanges. */
interface Survey {
  readonly gone: readonly Resource[];
  /** What this user may not look at. */
  readonly refused: readonly Resource[];
  /** How many messages are ready on the queues that stand. */
  readonly ready: ReadonlyMap<Resource, number>;
}

/** Requests on one channel wait for each other, so several channels share the work. */
const MOST_AT_ONCE = 4;

/** Looks which of these stand. Rejects if it could not look. */
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
      channel ??= await openChannel(link, requestTimeoutMs);
      try {
        const count = await answered(link, requestTimeoutMs, `look for ${resource}`, look(channel, resource));
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
  await Promise.all(Array.from({ length: MOST_AT_ONCE }, worker));
  return { gone, refused, ready };
}

async function look(channel: Channel, resource: Resource): Promise<number | undefined> {
  const name = nameOf(resource);
  if (resource.startsWith("queue ")) return (await channel.checkQueue(name)).messageCount;
  await channel.checkExchange(name);
  return undefined;
}

function nameOf(resource: Resource): string {
  return resource.slice(resource.indexOf(" ") + 1);
}

const LEVEL_NAMES: readonly string[] = Array.from({ length: LEVELS }, (_, level) => levelName(level));
const WAIT_QUEUES: ReadonlySet<Resource> = new Set(LEVEL_NAMES.map((name) => `queue ${name}` as const));
const DELAY_EXCHANGES: readonly Resource[] = [DELIVERY_EXCHANGE, ...LEVEL_NAMES].map(
  (name) => `exchange ${name}` as const,
);

/** What every delayed message passes, or may end at. */
const DELAY_THINGS: readonly Resource[] = [
  ...DELAY_EXCHANGES,
  ...WAIT_QUEUES,
  `exchange ${UNDELIVERED_EXCHANGE}`,
  `queue ${UNDELIVERED_QUEUE}`,
];

/** How long another process that starts may be between two steps. */
const BETWEEN_STEPS_MS = 1_000;

/**
 * The wait queues that were removed since delays were set up: their exchanges stand, and nobody is about to make them.
 * That is how a policy shows that ran while no process did.
 */
export async function removedWaitQueues(link: Connection, requestTimeoutMs: number): Promise<readonly Resource[]> {
  const { gone } = await survey(link, DELAY_THINGS, requestTimeoutMs);
  const missing = gone.filter((resource) => WAIT_QUEUES.has(resource));
  if (missing.length === 0 || DELAY_EXCHANGES.some((exchange) => gone.includes(exchange))) return [];
  await sleep(BETWEEN_STEPS_MS);
  const still = await survey(link, WAIT_QUEUES, requestTimeoutMs);
  return still.gone.length === missing.length ? missing : [];
}

/** The notices for resources that were gone and exist again. */
export function madeAgain(resources: readonly Resource[]): readonly MessagingError[] {
  const [first, ...others] = [...WAIT_QUEUES]
    .filter((resource) => resources.includes(resource))
    .map((resource) => `"${nameOf(resource)}"`);
  const texts = resources.filter((resource) => !WAIT_QUEUES.has(resource)).map(textOf);
  if (first !== undefined) {
    const what = others.length === 0 ? `wait queue ${first} was` : `wait queues ${[first, ...others].join(", ")} were`;
    const next = "see that neither a policy (expires) nor an operator removes queues named anybroker.delay.…";
    texts.unshift(`the ${what} gone, and the delayed messages there are lost; made again. Now ${next}`);
  }
  return texts.map((text) => new MessagingError("not-found", text));
}

function textOf(resource: Resource): string {
  const name = nameOf(resource);
  return resource.startsWith("queue ")
    ? `the queue "${name}" was gone, and the messages on it are lost; made again. Now see that neither a policy (expires) nor an operator removes it`
    : `the exchange "${name}" was gone; made again, with what this process binds to it. Events that came meanwhile were not taken`;
}

/** What people are told of something that is gone, where this process may not make it. */
function stillGone(resource: Resource): MessagingError {
  const text = WAIT_QUEUES.has(resource)
    ? "delayed messages do not get past it"
    : "what is meant for it is kept where it is, or refused";
  return new MessagingError(
    "not-found",
    `RabbitMQ has no ${resource.replace(" ", ' "')}" any more, and ${text}; ${DECLARE_IT}`,
  );
}

/** What a watch needs of the adapter around it. */
interface WatchHost {
  readonly requestTimeoutMs: number;
  link(): Connection | undefined;
  /** What the receivers take from, and what their messages go to. */
  consumed(): readonly Resource[];
  isDeclared(resource: Resource): boolean;
  /** Makes again what was declared. Never rejects. */
  restore(): Promise<unknown>;
  /** Sees to what costs more than a look: bindings, and policies. Never rejects. */
  tend(): Promise<void>;
  notice(error: MessagingError): void;
}

const LOOK_EVERY_MS = 60_000;
const LOOKS_PER_TENDING = 5;
const UNDELIVERED: Resource = `queue ${UNDELIVERED_QUEUE}`;

/**
 * Looks from time to time whether the helpers stand that nobody is told the end of: what delayed messages pass on their
 * way, and the dead letters and topics of what is consumed. Somebody may delete them, or a policy.
 */
export class TopologyWatch {
  readonly #host: WatchHost;
  readonly #told = new Set<Resource>();
  /** What this user may not look at: the server writes down every refusal. */
  readonly #refused = new Set<Resource>();
  #timer: NodeJS.Timeout | undefined;
  #delaysUsed = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking = false;
  #looks = 0;
  #undelivered: number | undefined;
  #isOver = false;

  constructor(host: WatchHost) {
    this.#host = host;
  }

  start(): void {
    this.#later();
  }

  /** A delayed message was sent: looks at once unless that was done lately. */
  delayed(): void {
    if (this.#delaysUsed) return;
    this.#delaysUsed = true;
    if (performance.now() - this.#lookedAt >= LOOK_EVERY_MS) void this.#look();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #later(): void {
    if (this.#isOver) return;
    // Processes that started together need not look together.
    this.#timer = setTimeout(
      () => void this.#look(true).finally(() => this.#later()),
      LOOK_EVERY_MS * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  async #look(regularly = false): Promise<void> {
    const link = this.#host.link();
    if (link === undefined || this.#looking) return;
    this.#looking = true;
    const wanted = [...this.#host.consumed(), ...(this.#delaysUsed ? DELAY_THINGS : [])];
    const resources = wanted.filter((resource) => !this.#refused.has(resource));
    if (this.#delaysUsed) this.#lookedAt = performance.now();
    this.#delaysUsed = false;
    try {
      const { gone, refused, ready } = await survey(link, resources, this.#host.requestTimeoutMs);
      if (this.#isOver) return;
      for (const resource of refused) this.#refused.add(resource);
      for (const resource of resources) if (!gone.includes(resource)) this.#told.delete(resource);
      const isMore = this.#countUndelivered(ready.get(UNDELIVERED));
      if (isMore || gone.some((resource) => this.#host.isDeclared(resource))) await this.#host.restore();
      for (const resource of gone) this.#tell(resource);
      if (regularly && ++this.#looks % LOOKS_PER_TENDING === 0) await this.#host.tend();
    } catch {
      // The connection is gone, which has its own way back.
    } finally {
      this.#looking = false;
    }
  }

  /** Whether delayed messages found nobody who takes them since the last look: perhaps a binding is gone. */
  #countUndelivered(count: number | undefined): boolean {
    if (count === undefined) return false;
    const before = this.#undelivered ?? count;
    this.#undelivered = count;
    if (count <= before) return false;
    this.#host.notice(
      new MessagingError(
        "unroutable",
        `${count - before} delayed messages found nobody to take them when they were due; they stand on the queue "${UNDELIVERED_QUEUE}"`,
      ),
    );
    return true;
  }

  #tell(resource: Resource): void {
    if (this.#host.isDeclared(resource) || this.#told.has(resource)) return;
    this.#told.add(resource);
    this.#host.notice(stillGone(resource));
  }
}
