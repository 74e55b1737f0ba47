import type { Clock, Timer } from "../../../core/clock.ts";
import type { Membership } from "../port.ts";

const NO_GENERATION = -1;

/**
 * Who we are in the group, and until when that is sure: the session lasts `timeoutMs` from when a request was sent to
 * which the coordinator answered that we are a member. It counts from its receipt, which is later.
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

  /** Empty before the group gave one. */
  get memberId(): string {
    return this.#memberId;
  }

  /** The last generation whose assignment we have; -1 before the first. */
  get assignedGeneration(): number {
    return this.#assignedGeneration;
  }

  /** Another one after each end: what was asked for in one term means nothing in the next. */
  get term(): number {
    return this.#term;
  }

  /** What to show the coordinator, if it took us in. */
  get membership(): Membership | undefined {
    if (this.#generation === NO_GENERATION) return undefined;
    return { group: this.#group, memberId: this.#memberId, generation: this.#generation };
  }

  /** Likewise, once we have the assignment of this generation. */
  get assigned(): Membership | undefined {
    return this.#generation === this.#assignedGeneration ? this.membership : undefined;
  }

  moment(): Moment {
    return { monotonic: this.#clock.monotonic(), now: this.#clock.now() };
  }

  invited(memberId: string): void {
    this.#memberId = memberId;
  }

  /** The coordinator took us in. A new member has nothing that it could lose meanwhile: its session begins now. */
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

  /** The coordinator answered to us as a member. `asked` is when the request was sent. */
  seen(asked: Moment): void {
    if (asked.monotonic < this.#seen.monotonic) return;
    this.#seen = asked;
    this.#watch();
  }

  /** Ends an overdue session, for moments at which its timer may be late. */
  check(): void {
    if (this.#generation === NO_GENERATION || this.#left() > 0) return;
    this.#expired();
  }

  /** We are no member any more, or cannot know. */
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

  /** By the wall clock too: a monotonic one may stand still while the machine is suspended. */
  #left(): number {
    const { monotonic, now } = this.#seen;
    return this.#timeoutMs - Math.max(this.#clock.monotonic() - monotonic, this.#clock.now() - now);
  }

  #cancel(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

/** A moment by both clocks. */
export interface Moment {
  readonly monotonic: number;
  readonly now: number;
}
