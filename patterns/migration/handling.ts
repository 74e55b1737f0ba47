import {
  type Delivery,
  type Handler,
  type HandlerResult,
  type Middleware,
  outcomeKind,
  postpone,
} from "../../core/delivery.ts";
import type { BarrierAlignment } from "./barrier.ts";
import { Barrier } from "./carried.ts";
import type { Slots } from "./moving-consumer.ts";
import type { Recording } from "./recording.ts";
import type { Side } from "./state.ts";

const STORE_AWAY_MS = 500;

/** What stands around a handler. */
interface HandlingParts {
  readonly source: string;
  /** Undefined where no order is kept. */
  readonly alignment: BarrierAlignment | undefined;
  readonly slots: Slots;
  readonly recording: Recording;
  /** Whether a handler runs once, however often its message comes. */
  readonly once: boolean;
  /** The first is the outermost. */
  readonly use: readonly Middleware[];
}

/** The user's handler, as it is given to one side: behind the alignment, in its turn, and with what it handled on record. */
export function handlerAt(side: Side, handler: Handler<unknown>, parts: HandlingParts): Handler<unknown> {
  const { source, alignment, slots, recording, once, use } = parts;
  const wrapped = use.reduceRight((next, middleware) => middleware(next), handler);
  return async (body: unknown, delivery: Delivery): Promise<HandlerResult> => {
    if (body instanceof Barrier) return alignment?.passed(side, body, delivery.key);
    const closed = alignment?.open(side, delivery);
    if (closed !== undefined) return closed;
    await slots.take();
    try {
      const result = await wrapped(body, delivery);
      if (outcomeKind(result) !== undefined) return result;
      const written = await recording.mark(source, delivery.id, "handled");
      // It comes again, is found done, and marked then. Otherwise it would be missing for ever.
      return written || !once ? result : postpone({ afterMs: STORE_AWAY_MS });
    } finally {
      slots.give();
    }
  };
}
