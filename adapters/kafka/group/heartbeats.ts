import type { Clock, Timer } from "../../../core/clock.ts";
import type { Membership } from "../port.ts";
import type { CoordinatorLink } from "./coordinator-link.ts";
import { isFenced } from "./errors.ts";
import type { Session } from "./session.ts";

/** Who wants to hear what the coordinator answers. */
export interface HeartbeatEvents {
  /** The group is to be joined again. */
  rebalancing(membership: Membership): void;
  fenced(membership: Membership, name: string): void;
}

/** Tells the coordinator by a timer that we live, whatever else is going on. */
export class Heartbeats {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #link: CoordinatorLink;
  readonly #session: Session;
  readonly #events: HeartbeatEvents;
  #timer: Timer | undefined;
  #isBeating = false;

  constructor(clock: Clock, everyMs: number, link: CoordinatorLink, session: Session, events: HeartbeatEvents) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#link = link;
    this.#session = session;
    this.#events = events;
  }

  start(): void {
    // All members of a process at one time, so that what they say goes out together.
    const ms = this.#everyMs - (this.#clock.monotonic() % this.#everyMs);
    this.#timer = this.#clock.schedule(() => {
      this.start();
      this.#session.check();
      if (!this.#isBeating) void this.#beat();
    }, ms);
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  async #beat(): Promise<void> {
    const { membership, term } = this.#session;
    if (membership === undefined) return;
    const asked = this.#session.moment();
    this.#isBeating = true;
    try {
      const error = await this.#link.ask("hear a heartbeat", (connection, node) =>
        connection.heartbeat(node, membership),
      );
      if (this.#timer === undefined || term !== this.#session.term) return;
      if (error === undefined || error === "REBALANCE_IN_PROGRESS") this.#session.seen(asked);
      if (error === "REBALANCE_IN_PROGRESS") this.#events.rebalancing(membership);
      else if (error !== undefined && isFenced(error)) this.#events.fenced(membership, error);
      else if (error !== undefined) this.#link.forget();
    } catch {
      // The next one looks for the coordinator anew; without any that is answered the session runs out.
    } finally {
      this.#isBeating = false;
    }
  }
}
