import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type { Middleware } from "../../core/delivery.ts";
import { askDepth, checkLimits, DepthGauge, type DepthLimit, type DepthSource } from "./admit-by-depth.ts";
import { type Intake, type IntakeControl, IntakeGroup } from "./control-intake.ts";

const DEFAULT_POLL_MS = 500;

/** The options of {@link followDownstream}. */
export interface FollowOptions {
  /** Where the handler sends to, and how much may wait there. */
  readonly limits: readonly DepthLimit[];
  /** How many messages a handler sends to each, at most, for one that it handles. Default 1. */
  readonly perMessage?: number;
  /** The least time between two questions for one depth, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/**
 * Links a consumer to what it feeds: it takes messages only while there is room downstream, so that a slow last stage
 * slows every stage before it, up to the first, whose own queue then grows or whose publishers wait. Nothing is refused
 * and nothing is lost: what is not taken waits on the broker. See {@link controlIntake}.
 *
 * By credits, as in Reactive Streams: each handler that starts uses up `perMessage` of the room below `maxDepth`, and an
 * answer of the broker gives back what was handled there. With none left intake is held until the depth is down at
 * `resumeAt`. It is held, too, while the downstream broker is away or refuses messages, or while sends wait for room in
 * its publish buffer: handlers would only run into their deadlines. While the depth cannot be had for another reason, one
 * message at a time is handled: that neither floods nor stands still.
 *
 * The bound holds for what goes through consumers that share this object; other processes add what they send between two
 * answers. Throws `invalid` for wrong options.
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
  /** Whether what a handler sends would only wait, when it was looked at last. */
  #refuses = false;

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
      this.#look();
      try {
        return await next(body, delivery);
      } finally {
        for (const gauge of this.#gauges) gauge.settled(this.#perMessage);
      }
    };
  }

  #ask(): void {
    const { state, connected, blocked, publishing } = this.#broker.status();
    this.#refuses = state === "started" && (!connected || blocked !== undefined || publishing.waiting > 0);
    Promise.all(this.#gauges.map((gauge) => gauge.refresh())).then(() => this.#look());
  }

  #look(): void {
    if (this.#refuses || this.#gauges.some((gauge) => gauge.full)) {
      this.#group.holdUntil(this.#clock.monotonic() + this.#pollMs, () => this.#ask());
    } else {
      this.#group.allow(this.#gauges.every((gauge) => gauge.known) ? undefined : 1);
    }
  }
}
