import type { Adapter } from "../../core/adapter.ts";
import { describeAddress } from "../../core/address.ts";
import type { Broker, Receipt } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import type { Clock, Random } from "../../core/clock.ts";
import { jsonCodec } from "../../core/codec.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { unawaited } from "../../core/foreign.ts";
import type { PublishOptions, SendOptions } from "../../core/options.ts";
import { asInvalid } from "../../core/publish/encode-message.ts";
import { abortable } from "../../core/publish/publisher.ts";
import { DEFAULT_SEND_MS } from "../../core/publish/publisher-engine.ts";
import { headerBytes, withHeaders } from "../../core/system-headers.ts";
import { EPOCH_HEADER } from "./barrier.ts";
import type { BrokerPair } from "./broker-pair.ts";
import type { CarriedDestinations } from "./carried.ts";
import type { Follower } from "./follower.ts";
import type { Plan } from "./plan.ts";
import type { Routed, Router, Target } from "./router.ts";
import type { Side } from "./state.ts";

/** The parts of {@link movingInternals}. */
interface MovingInternalsParts {
  readonly plan: Plan;
  readonly clock: Clock;
  readonly random: Random;
  readonly makeId: () => string;
  readonly emit: (event: BrokerEvent) => void;
  readonly route: (message: Routed) => Promise<Receipt>;
  readonly side: (side: Side) => Broker;
  readonly requireStarted: (what: string) => void;
}

/**
 * The internals for patterns that publish, such as the outbox's relay: messages are routed by the migration. Calls that
 * need one broker, such as for dead letters, are refused.
 */
export function movingInternals(parts: MovingInternalsParts): BrokerInternals {
  const { plan, clock, random, makeId, emit, route, side, requireStarted } = parts;
  return {
    adapter: noAdapter(plan.adapters.from),
    clock,
    random,
    codec: jsonCodec(),
    emit,
    makeId,
    stopped: () => new AbortController().signal,
    requireStarted,
    sendCopy(to, ordered, message) {
      if (to.kind !== "queue" && to.kind !== "topic") {
        const what = `a copy for ${describeAddress(to)}`;
        return Promise.reject(
          new MessagingError("unsupported", `${what} must be sent by a broker object of one of the two brokers`),
        );
      }
      return route({
        to,
        where: describeAddress(to),
        id: message.id,
        key: message.key,
        routingKey: message.routingKey,
        ordered,
        timeoutMs: DEFAULT_SEND_MS,
        send: (at, _timeoutMs, epoch) => {
          const stamped = epoch === undefined ? {} : { [EPOCH_HEADER]: String(epoch) };
          const headers = withHeaders(message.headers, stamped);
          const size = message.body.length + headerBytes(headers);
          return internalsOf(side(at), "migration").sendCopy(to, ordered, { ...message, headers, size });
        },
      });
    },
  };
}

/** Has the old broker's capabilities and names, and refuses every call. */
function noAdapter(adapter: Adapter): Adapter {
  const { name, capabilities, sendLimits } = adapter;
  const refuse = (): Promise<never> =>
    Promise.reject(
      new MessagingError(
        "unsupported",
        "this call needs one broker, and a migration has two; use a broker object of one of them",
      ),
    );
  return {
    name,
    capabilities,
    sendLimits,
    physicalName: (address) => adapter.physicalName(address),
    open: refuse,
    declare: refuse,
    receive: refuse,
    quarantine: () => ({ append: refuse, read: refuse }),
    depth: refuse,
    close: refuse,
    send: (_to, batch, report) => {
      const cause = new MessagingError("unsupported", "a migration does not send through one adapter");
      for (let index = 0; index < batch.length; index++) report(index, { status: "unknown", cause, unsent: true });
    },
  };
}

type AnyDestination = Queue<never, unknown> | Topic<never, unknown>;

/** The parts of {@link MovingSends}. */
interface MovingSendsParts {
  readonly plan: Plan;
  readonly router: Router;
  readonly pair: BrokerPair;
  readonly carried: CarriedDestinations;
  readonly follower: Follower;
  readonly makeId: () => string;
  readonly timeoutMs: number;
  readonly requireStarted: (what: string) => void;
}

/** Sends by the broker object of the side that the router chooses. */
export class MovingSends {
  readonly #parts: MovingSendsParts;

  constructor(parts: MovingSendsParts) {
    this.#parts = parts;
  }

  send(
    kind: Target["kind"],
    to: AnyDestination,
    body: unknown,
    options: SendOptions & PublishOptions,
  ): Promise<Receipt> {
    const verb = kind === "queue" ? "send" : "publish";
    try {
      checkKind(verb, kind, to);
      const where = `${kind} "${to.name}"`;
      this.#parts.requireStarted(`${verb} to ${where}`);
      this.#parts.plan.require(`${verb} to ${where}`, kind, to.name);
      const key = options.key ?? unawaited(to.options.key?.(body as never));
      const routingKey =
        to.kind === "topic" ? (options.routingKey ?? unawaited(to.options.routingKey?.(body as never))) : undefined;
      const id = options.id ?? this.#parts.makeId();
      const message = (handOn: () => void): Routed => ({
        to: { kind, name: to.name },
        where,
        id,
        key,
        routingKey,
        ordered: to.options.ordered === true && !this.#accepted.includes("order"),
        timeoutMs: options.timeoutMs ?? this.#parts.timeoutMs,
        send: (side, timeoutMs, epoch) => {
          handOn();
          const stamped = epoch === undefined ? {} : { headers: { ...options.headers, [EPOCH_HEADER]: String(epoch) } };
          const broker = this.#parts.pair.require(side, `${verb} to ${where}`);
          const destination = this.#parts.carried.of(to, side, this.#accepted);
          const all = { ...this.#allowed(options, side), ...stamped, id, timeoutMs };
          return kind === "queue" ? broker.send(destination, body, all) : broker.publish(destination, body, all);
        },
      });
      const { signal } = options;
      // The broker object refuses what is no signal.
      return abortable(where, signal instanceof AbortSignal ? signal : undefined, (handOn) =>
        this.#parts.router.route(message(handOn)),
      );
    } catch (error) {
      return Promise.reject(asInvalid(error));
    }
  }

  get #accepted(): readonly string[] {
    return this.#parts.follower.state?.accepted ?? [];
  }

  /** The options without the accepted losses. */
  #allowed(options: SendOptions & PublishOptions, side: Side): SendOptions & PublishOptions {
    const accepted = this.#accepted;
    if (side === "from" || accepted.length === 0) return options;
    const { priority, ttlMs, delayMs, ...rest } = options;
    const noPriority = accepted.includes("priority") || accepted.includes("priorityLevels");
    return {
      ...rest,
      ...(priority === undefined || noPriority ? {} : { priority }),
      ...(ttlMs === undefined || accepted.includes("ttl") ? {} : { ttlMs }),
      ...(delayMs === undefined || accepted.includes("delay") ? {} : { delayMs }),
    };
  }
}

/** Throws `invalid` unless the destination has the kind. */
export function checkKind(verb: string, kind: string, destination: { readonly kind: string } | undefined): void {
  if (destination?.kind === kind) return;
  throw new MessagingError("invalid", `${verb} takes a ${kind}, made by ${kind}()`);
}
