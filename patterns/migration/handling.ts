import type { Delivery, Handler, HandlerResult, Middleware } from "../../core/index.ts";
import { outcomeKind } from "../../core/outcome.ts";
import { Marker } from "./carried.ts";
import type { Gate } from "./gate.ts";
import type { Slots } from "./moving-consumer.ts";
import type { Recording } from "./recording.ts";
import type { Side } from "./state.ts";

/** What stands around a handler. */
export interface HandlingParts {
  readonly source: string;
  /** Undefined where no order is kept. */
  readonly gate: Gate | undefined;
  readonly slots: Slots;
  readonly recording: Recording;
  /** The first is the outermost. */
  readonly use: readonly Middleware[];
}

/** The user's handler, as it is given to one side: behind the gate, in its turn, and with what it handled on record. */
export function handlerAt(side: Side, handler: Handler<unknown>, parts: HandlingParts): Handler<unknown> {
  const { source, gate, slots, recording, use } = parts;
  const wrapped = use.reduceRight((next, middleware) => middleware(next), handler);
  return async (body: unknown, delivery: Delivery): Promise<HandlerResult> => {
    if (body instanceof Marker) return gate?.passed(side, body, delivery.key);
    const closed = gate?.open(side, delivery);
    if (closed !== undefined) return closed;
    await slots.take();
    try {
      const result = await wrapped(body, delivery);
      if (outcomeKind(result) === undefined) await recording.mark(source, delivery.id, "handled");
      return result;
    } finally {
      slots.give();
    }
  };
}
