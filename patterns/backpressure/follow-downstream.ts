import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type { Middleware } from "../../core/delivery.ts";
import { askDepth, checkLimits, DepthGauge, type DepthLimit, type DepthSource } from "./admit-by-depth.ts";
import { type Intake, type IntakeControl, IntakeGroup } from "./control-intake.ts";

const DEFAULT_POLL_MS = 500;

/** The options of {@link followDownstream}. */
export interface FollowOptions {
  /** The destinations that the handler sends to, and their limits. */
  readonly limits: readonly DepthLimit[];
  /** The most messages that a handler sends to each destination for one message. Default 1. */
  readonly perMessage?: number;
  /** The least time between two depth requests for one destination, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
}

/**
 * Links a consumer to the queues it feeds: it takes messages only while there is room downstream. A slow last stage so
 * slows down every stage before it. Use it with {@link controlIntake}. No message is refused; messages wait on the broker.
 *
 * - Each started handler uses up `perMessage` of the room below `maxDepth`. Answers of the broker free the room again.
 *   Without room, intake is held until the depth is down to `resumeAt`.
 * - Intake is also held while the downstream broker is unreachable or blocked, and while sends wait for room in its
 *   publish buffer.
 * - While the depth is unavailable for another reason, one message at a time is handled.
 * - The limit holds for consumers that share this object. Other processes may exceed it by what they send between two
 *   answers.
 *
 * Throws `invalid` for wrong options.
 */
export function followDownstream(broker: DepthSource & Pick<Broker, "status">, options: FollowOptions): IntakeControl {
  const where = "followDownstream";
  checkOptions(where, options, ["limits", "perMessage", "pollMs", "clock"]);
  const { perMessage = 1, pollMs = DEFAULT_POLL_MS } = options;
  const clock = clockOf(`${where} { clock }`, options.clock);
  checkInteger(`${where} { perMessage }`, perMessage, 1);
  checkInteger(`${where} { pollMs }`, pollMs, 1);
  const gauges = checkLimits(where, options.limits).map(
    (limit) => new DepthGauge(limit, () => askDepth(broker, limit), clock, pollMs),
  );
  return new Following(broker, gauges, perMessage, pollMs, clock);
}

class Following implements IntakeControl {
  readonly #broker: Pick<Broker, "status">;
  readonly #gauges: readonly DepthGauge[];
  readonly #perMessage: number;
  readonly #pollMs: number;
  readonly #clock: Clock;
  readonly #group: IntakeGroup;
  /** Whether sends would wait, as of the last check. */
  #blocked = false;

  constructor(
    broker: Pick<Broker, "status">,
    gauges: readonly DepthGauge[],
    perMessage: number,
    pollMs: number,
    clock: Clock,
  ) {
    this.#broker = broker;
    this.#gauges = gauges;
    this.#perMessage = perMessage;
    this.#pollMs = pollMs;
    this.#clock = clock;
    this.#group = new IntakeGroup(clock);
  }

  control(intake: Intake): Middleware {
    this.#group.add(intake);
    return (next) => async (body, delivery) => {
      for (const gauge of this.#gauges) gauge.take(this.#perMessage);
      if (this.#gauges.some((gauge) => gauge.stale)) this.#ask();
      this.#update();
      try {
        return await next(body, delivery);
      } finally {
        for (const gauge of this.#gauges) gauge.settled(this.#perMessage);
      }
    };
  }

  #ask(): void {
    const { state, connected, blocked, publishing } = this.#broker.status();
    this.#blocked = state === "started" && (!connected || blocked !== undefined || publishing.waiting > 0);
    Promise.all(this.#gauges.map((gauge) => gauge.refresh())).then(() => this.#update());
  }

  #update(): void {
    if (this.#blocked || this.#gauges.some((gauge) => gauge.full)) {
      this.#group.holdUntil(this.#clock.monotonic() + this.#pollMs, () => this.#ask());
    } else {
      this.#group.allow(this.#gauges.every((gauge) => gauge.known) ? undefined : 1);
    }
  }
}
