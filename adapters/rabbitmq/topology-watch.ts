import { MessagingError } from "../../core/errors.ts";
import { UNDELIVERED_QUEUE } from "./delay-levels.ts";
import type { Thing } from "./known.ts";
import type { Link } from "./link.ts";
import { DELAY_THINGS, stillGone, survey } from "./survey.ts";

/** What a watch needs of the adapter around it. */
export interface WatchHost {
  readonly requestTimeoutMs: number;
  link(): Link | undefined;
  /** What the receivers take from, and what their messages go to. */
  consumed(): readonly Thing[];
  isDeclared(thing: Thing): boolean;
  /** Makes again what was declared. Never rejects. */
  restore(): Promise<unknown>;
  /** Sees to what costs more than a look: bindings, and policies. Never rejects. */
  tend(): Promise<void>;
  notice(error: MessagingError): void;
}

const LOOK_EVERY_MS = 60_000;
const LOOKS_PER_TENDING = 5;
const UNDELIVERED: Thing = `queue ${UNDELIVERED_QUEUE}`;

/**
 * Looks from time to time whether the helpers stand that nobody is told the end of: what delayed messages pass on their
 * way, and the dead letters and topics of what is consumed. Somebody may delete them, or a policy.
 */
export class TopologyWatch {
  readonly #host: WatchHost;
  readonly #told = new Set<Thing>();
  /** What this user may not look at: the server writes down every refusal. */
  readonly #refused = new Set<Thing>();
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
    const things = wanted.filter((thing) => !this.#refused.has(thing));
    if (this.#delaysUsed) this.#lookedAt = performance.now();
    this.#delaysUsed = false;
    try {
      const { gone, refused, ready } = await survey(link, things, this.#host.requestTimeoutMs);
      if (this.#isOver) return;
      for (const thing of refused) this.#refused.add(thing);
      for (const thing of things) if (!gone.includes(thing)) this.#told.delete(thing);
      const isMore = this.#countUndelivered(ready.get(UNDELIVERED));
      if (isMore || gone.some((thing) => this.#host.isDeclared(thing))) await this.#host.restore();
      for (const thing of gone) this.#tell(thing);
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

  #tell(thing: Thing): void {
    if (this.#host.isDeclared(thing) || this.#told.has(thing)) return;
    this.#told.add(thing);
    this.#host.notice(stillGone(thing));
  }
}
