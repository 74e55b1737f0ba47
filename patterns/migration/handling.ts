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

const STORE_UNREACHABLE_MS = 500;

/** The parts of {@link handlerAt}. */
interface HandlingParts {
  readonly source: string;
  /** Undefined for an unordered source. */
  readonly alignment: BarrierAlignment | undefined;
  readonly slots: Slots;
  readonly recording: Recording;
  /** Whether the middleware handles each message once. */
  readonly once: boolean;
  /** The first one is the outermost. */
  readonly use: readonly Middleware[];
}

/** Wraps the user's handler for one side: with the alignment of barriers, the concurrency limit and the journal. */
export function handlerAt(side: Side, handler: Handler<unknown>, parts: HandlingParts): Handler<unknown> {
  const { source, alignment, slots, recording, once, use } = parts;
  const wrapped = use.reduceRight((next, middleware) => middleware(next), handler);
  return async (body: unknown, delivery: Delivery): Promise<HandlerResult> => {
    if (body instanceof Barrier) return alignment?.acknowledge(side, body, delivery.key);
    const refused = alignment?.admit(side, delivery);
    if (refused !== undefined) return refused;
    await slots.take();
    try {
      const result = await wrapped(body, delivery);
      if (outcomeKind(result) !== undefined) return result;
      const written = await recording.mark(source, delivery.id, "handled");
      // It is delivered again, skipped as handled, and marked then. Otherwise it would stay missing.
      return written || !once ? result : postpone({ afterMs: STORE_UNREACHABLE_MS });
    } finally {
      slots.give();
    }
  };
}
