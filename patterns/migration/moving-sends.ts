import { unawaited } from "../../core/foreign.ts";
import {
  MessagingError,
  type PublishOptions,
  type Queue,
  type Receipt,
  type SendOptions,
  type Topic,
} from "../../core/index.ts";
import { asInvalid } from "../../core/publish/encode-message.ts";
import type { CarriedDestinations } from "./carried-destinations.ts";
import type { Follower } from "./follower.ts";
import { EPOCH_HEADER } from "./gate.ts";
import type { Plan } from "./plan.ts";
import type { Router, Target } from "./router.ts";
import type { Sides } from "./sides.ts";
import type { Side } from "./state.ts";

type AnyDestination = Queue<never, unknown> | Topic<never, unknown>;

/** What sends are made with. */
export interface MovingSendsParts {
  readonly plan: Plan;
  readonly router: Router;
  readonly sides: Sides;
  readonly carried: CarriedDestinations;
  readonly follower: Follower;
  readonly makeId: () => string;
  readonly timeoutMs: number;
  readonly requireStarted: (what: string) => void;
}

/** The sends of a moving broker: each by the broker object of the side that the router says. */
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
      return this.#parts.router.route({
        to: { kind, name: to.name },
        where,
        id,
        key,
        routingKey,
        ordered: to.options.ordered === true && !this.#accepted.includes("order"),
        timeoutMs: options.timeoutMs ?? this.#parts.timeoutMs,
        send: (side, timeoutMs, epoch) => {
          const stamped = epoch === undefined ? {} : { headers: { ...options.headers, [EPOCH_HEADER]: String(epoch) } };
          const broker = this.#parts.sides.require(side, `${verb} to ${where}`);
          const destination = this.#parts.carried.of(to, side, this.#accepted);
          const all = { ...this.#allowed(options, side), ...stamped, id, timeoutMs };
          return kind === "queue" ? broker.send(destination, body, all) : broker.publish(destination, body, all);
        },
      });
    } catch (error) {
      return Promise.reject(asInvalid(error));
    }
  }

  get #accepted(): readonly string[] {
    return this.#parts.follower.state?.accepted ?? [];
  }

  /** Without what was given up. */
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

/** Throws `invalid` for what is no destination of the kind. */
export function checkKind(verb: string, kind: string, destination: { readonly kind: string } | undefined): void {
  if (destination?.kind === kind) return;
  throw new MessagingError("invalid", `${verb} takes a ${kind}, made by ${kind}()`);
}
