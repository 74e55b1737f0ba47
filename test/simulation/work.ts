import type { StandardSchemaV1 } from "@standard-schema/spec";
import { type Queue, queue, type Topic, topic } from "../../core/destination.ts";
import type { Variant } from "./variant.ts";

/** What the handler of a message does, told by the message itself. */
export interface Plan {
  readonly kind: "ok" | "throw" | "reject" | "retry" | "postpone" | "dead-letter" | "hang" | "ignore" | "poison";
  /** On how many of its first starts; afterwards it succeeds. */
  readonly times: number;
  /** How long it works. */
  readonly workMs: number;
}

export interface Work {
  readonly number: number;
  readonly plan: Plan;
}

export interface Destinations {
  readonly queue: Queue<Work>;
  readonly topic: Topic<Work>;
}

export const SUBSCRIPTIONS = ["alpha", "beta"] as const;
/** Where messages are handled: the queue and the two subscriptions of the topic. */
export const SOURCES = { queue: ["work"], topic: ["events..alpha", "events..beta"] } as const;

/** The delay that `retry({ afterMs })` and `postpone({ afterMs })` ask for. */
export const RETRY_AFTER_MS = 1_234.5;

export function destinationsOf(variant: Variant): Destinations {
  const schema = schemaOf(variant.asyncSchema);
  return {
    queue: queue("work", { schema, ordered: variant.queueOrdered }),
    topic: topic("events", { schema, ordered: variant.topicOrdered }),
  };
}

function schemaOf(asynchronous: boolean): StandardSchemaV1<Work, Work> {
  const check = (value: unknown): StandardSchemaV1.Result<Work> => {
    const valid = typeof value === "object" && value !== null && typeof (value as Work).number === "number";
    return valid ? { value: value as Work } : { issues: [{ message: "not a number", path: ["number"] }] };
  };
  return {
    "~standard": {
      version: 1,
      vendor: "simulation",
      validate: (value) => (asynchronous ? Promise.resolve(check(value)) : check(value)),
    },
  };
}
