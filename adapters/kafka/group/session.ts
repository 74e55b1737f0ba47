import type { Clock, Timer } from "../../../core/clock.ts";
import type { Membership } from "../port.ts";

const NO_GENERATION = -1;

/**
 * The membership and its expiry. A session lasts `timeoutMs` from sending the last request that the coordinator
 * answered to a member; the coordinator counts from its receipt, which is later.
 */
export class MemberSession {
  readonly #group: string;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #expired: () => void;
  #memberId = "";
  #generation = NO_GENERATION;
  #assignedGeneration = NO_GENERATION;
  #term = 0;
  #seen: Moment = { monotonic: 0, now: 0 };
  #timer: Timer | undefined;

  constructor(group: string, clock: Clock, timeoutMs: number, expired: () => void) {
    this.#group = group;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#expired = expired;
  }

  /** Empty before the group assigned one. */
  get memberId(): string {
    return this.#memberId;
  }

  /** The last generation with a known assignment; -1 before the first. */
  get assignedGeneration(): number {
    return this.#assignedGeneration;
  }

  /** Changes when a session ends: answers to requests of an earlier term are ignored. */
  get term(): number {
    return this.#term;
  }

  /** The current membership; undefined before a join. */
  get membership(): Membership | undefined {
    if (this.#generation === NO_GENERATION) return undefined;
    return { group: this.#group, memberId: this.#memberId, generation: this.#generation };
  }

  /** The membership, if its assignment is known. */
  get assigned(): Membership | undefined {
    return this.#generation === this.#assignedGeneration ? this.membership : undefined;
  }

  moment(): Moment {
    return { monotonic: this.#clock.monotonic(), now: this.#clock.now() };
  }

  invited(memberId: string): void {
    this.#memberId = memberId;
  }

  /** The group accepted the member. A new member owns nothing yet, so its session starts now. */
  joined(memberId: string, generation: number, asked: Moment): void {
    const isNew = this.#generation === NO_GENERATION;
    this.#memberId = memberId;
    this.#generation = generation;
    this.seen(isNew ? this.moment() : asked);
  }

  gotAssignment(asked: Moment): void {
    this.#assignedGeneration = this.#generation;
    this.seen(asked);
  }

  /** The coordinator answered a member's request that was sent at `asked`. */
  seen(asked: Moment): void {
    if (asked.monotonic < this.#seen.monotonic) return;
    this.#seen = asked;
    this.#watch();
  }

  /** Ends an expired session if its timer is late. */
  check(): void {
    if (this.#generation === NO_GENERATION || this.#left() > 0) return;
    this.#expired();
  }

  /** The membership ended, or may have. */
  end(keep: "member-id" | "nothing"): void {
    if (keep === "nothing") this.#memberId = "";
    this.#generation = NO_GENERATION;
    this.#assignedGeneration = NO_GENERATION;
    this.#term++;
    this.#cancel();
  }

  #watch(): void {
    this.#cancel();
    this.#timer = this.#clock.schedule(() => this.#onTimer(), Math.max(this.#left(), 0));
  }

  #onTimer(): void {
    this.#timer = undefined;
    if (this.#left() > 0) this.#watch();
    else this.check();
  }

  /** Uses the wall clock too: the monotonic clock may stop while the machine is suspended. */
  #left(): number {
    const { monotonic, now } = this.#seen;
    return this.#timeoutMs - Math.max(this.#clock.monotonic() - monotonic, this.#clock.now() - now);
  }

  #cancel(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

/** A time by both clocks. */
interface Moment {
  readonly monotonic: number;
  readonly now: number;
}
