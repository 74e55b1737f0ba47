import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import {
  type Adapter,
  type Broker,
  type BrokerEvent,
  type Clock,
  describeAddress,
  jsonCodec,
  MessagingError,
  type Random,
  type Receipt,
} from "../../core/index.ts";
import { headerBytes, withHeaders } from "../../core/system-headers.ts";
import { EPOCH_HEADER } from "./gate.ts";
import type { Plan } from "./plan.ts";
import type { Routed } from "./router.ts";
import type { Side } from "./state.ts";

const SEND_MS = 30_000;

/** What other patterns get of a moving broker. */
export interface MovingInternalsParts {
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
 * What patterns that publish, such as the outbox's relay, build on: their messages go where the migration says. What stands
 * on one broker alone, such as dead letters, is asked of that broker.
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
    requireStarted,
    sendCopy(to, ordered, message) {
      if (to.kind !== "queue" && to.kind !== "topic") {
        const what = `a copy for ${describeAddress(to)}`;
        return Promise.reject(
          new MessagingError("unsupported", `${what} is sent by one of the two brokers themselves`),
        );
      }
      return route({
        to,
        where: describeAddress(to),
        id: message.id,
        key: message.key,
        routingKey: message.routingKey,
        ordered,
        timeoutMs: SEND_MS,
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

/** Knows what the old broker can do, and does nothing. */
function noAdapter(adapter: Adapter): Adapter {
  const { name, capabilities, sendLimits } = adapter;
  const refuse = (): Promise<never> =>
    Promise.reject(
      new MessagingError(
        "unsupported",
        "this looks at one broker, and a migration has two; make a broker object of the one that is meant",
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
      const cause = new MessagingError("unsupported", "a migration sends by its own rules");
      for (let index = 0; index < batch.length; index++) report(index, { status: "unknown", cause });
    },
  };
}
