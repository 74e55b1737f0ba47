import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import {
  type Clock,
  type Entry,
  MessagingError,
  type Publisher,
  type PublishOptions,
  type Queue,
  type Receipt,
  type SendOptions,
  type Topic,
} from "../../core/index.ts";
import { sendEach } from "../../core/publish/publisher.ts";
import { AdmissionGate } from "./admission-gate.ts";
import { DepthGauge } from "./depth-gauge.ts";
import { askDepth, type CheckedLimit, checkLimits, type DepthLimit, type DepthSource } from "./depth-limit.ts";

const DEFAULT_POLL_MS = 500;
const DEFAULT_TIMEOUT_MS = 30_000;

/** The options of {@link admitByDepth}. */
export interface AdmissionOptions {
  /** What is limited. Several subscriptions of one topic may be: an event then waits for the fullest. */
  readonly limits: readonly DepthLimit[];
  /** When it is full: `wait` for room, or `fail` at once with `overloaded`. Default `wait`. */
  readonly whenFull?: "wait" | "fail";
  /** The least time between two questions for one depth, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** How long a send without a `timeoutMs` of its own waits, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** What is known of one limit. */
export interface AdmissionStatus {
  /** As in `queue "orders"`. */
  readonly destination: string;
  /** The last depth told, and what this publisher added since; undefined while it is not known. */
  readonly depth: number | undefined;
  readonly full: boolean;
  /** Sends that wait for room. */
  readonly waiting: number;
}

/** A publisher that sends only what there is room for; made by {@link admitByDepth}. */
export interface AdmittingPublisher extends Publisher {
  status(): readonly AdmissionStatus[];
}

/**
 * A publisher that keeps queues from growing without end: with `maxDepth` messages waiting on a destination, sends to it
 * wait until there are `resumeAt`, in the order of the calls, or are refused with `overloaded`. What it is not told to
 * limit passes through. A send that has waited has what is left of its time; one that waited in vain is refused with
 * `timeout`, and was not sent.
 *
 * The depth is asked for when it is used, at most every `pollMs`, once for all callers; in between, what this publisher
 * sends is added. So the limit holds to the message for one publisher; of several, each may add what it sends between
 * two answers. Choose `maxDepth` larger than what is to pass in `pollMs`. Messages sent with a delay count when they are
 * due.
 *
 * While the depth cannot be had (the broker is away), the last one is believed for about ten seconds, what is sent added;
 * after that messages pass: into the publish buffer, which is bounded and answers truthfully. So nobody waits for ever,
 * and nothing is taken that is not sent. Throws `invalid` for wrong options.
 */
export function admitByDepth(broker: Publisher & DepthSource, options: AdmissionOptions): AdmittingPublisher {
  const where = "admitByDepth";
  checkOptions(where, options, ["limits", "whenFull", "pollMs", "timeoutMs", "clock"]);
  const { whenFull = "wait", pollMs = DEFAULT_POLL_MS, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const clock = clockOf(`${where} { clock }`, options.clock);
  if (whenFull !== "wait" && whenFull !== "fail") {
    throw new MessagingError("invalid", `${where} { whenFull } takes "wait" or "fail"`);
  }
  checkInteger(`${where} { pollMs }`, pollMs, 1);
  checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  const byDestination = Map.groupBy(checkLimits(where, options.limits), ({ destination }) => gateName(destination));
  const gates = new Map<string, AdmissionGate>();
  for (const [name, limits] of byDestination) {
    const gauges = limits.map((limit) => new DepthGauge(limit, () => askDepth(broker, limit), clock, pollMs));
    gates.set(name, new AdmissionGate(gauges, clock, pollMs, whenFull));
  }
  return new Admission(broker, gates, timeoutMs);
}

function gateName({ kind, name }: CheckedLimit["destination"]): string {
  return `${kind} ${name}`;
}

class Admission implements AdmittingPublisher {
  readonly #publisher: Publisher;
  readonly #gates: ReadonlyMap<string, AdmissionGate>;
  readonly #timeoutMs: number;

  constructor(publisher: Publisher, gates: ReadonlyMap<string, AdmissionGate>, timeoutMs: number) {
    this.#publisher = publisher;
    this.#gates = gates;
    this.#timeoutMs = timeoutMs;
  }

  send<Input, Output>(queue: Queue<Input, Output>, body: NoInfer<Input>, options?: SendOptions): Promise<Receipt> {
    return this.#pass(queue, options, (own) => this.#publisher.send(queue, body, own));
  }

  publish<Input, Output>(
    topic: Topic<Input, Output>,
    body: NoInfer<Input>,
    options?: PublishOptions,
  ): Promise<Receipt> {
    return this.#pass(topic, options, (own) => this.#publisher.publish(topic, body, own));
  }

  sendMany<Input, Output>(
    queue: Queue<Input, Output>,
    entries: readonly Entry<NoInfer<Input>, SendOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("sendMany", entries, ({ body, options }) => this.send(queue, body, options));
  }

  publishMany<Input, Output>(
    topic: Topic<Input, Output>,
    entries: readonly Entry<NoInfer<Input>, PublishOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("publishMany", entries, ({ body, options }) => this.publish(topic, body, options));
  }

  status(): readonly AdmissionStatus[] {
    return [...this.#gates.values()].flatMap((gate) =>
      gate.gauges.map((gauge) => ({
        destination: gauge.limit.name,
        depth: gauge.level,
        full: gauge.full,
        waiting: gate.waiting,
      })),
    );
  }

  #pass<Options extends SendOptions | PublishOptions>(
    destination: { readonly kind: "queue" | "topic"; readonly name: string } | undefined,
    options: Options | undefined,
    send: (options: Options | undefined) => Promise<Receipt>,
  ): Promise<Receipt> {
    const gate = destination === undefined ? undefined : this.#gates.get(`${destination.kind} ${destination.name}`);
    if (gate === undefined) return send(options);
    const own = options?.timeoutMs;
    // What is wrong is the publisher's to refuse.
    const waitMs = typeof own === "number" && own > 0 ? own : this.#timeoutMs;
    return gate.pass(
      (leftMs) => send(leftMs === undefined ? options : ({ ...options, timeoutMs: leftMs } as Options)),
      waitMs,
    );
  }
}
