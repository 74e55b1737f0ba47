import { type Codec, jsonCodec } from "../../core/codec.ts";
import { type Queue, queue, type Topic, topic } from "../../core/destination.ts";
import { epochIn, type Side } from "./state.ts";

/** The prefix of a barrier's body. No other message has it. */
const MAGIC = Buffer.from("anybroker-migration-barrier:5b0f6c1e-6d0a-4f0e-9a6e-6f5b7d1c2a90:");

/** A message behind the last one of a key in all earlier epochs. */
export class Barrier {
  readonly epoch: number;

  constructor(epoch: number) {
    this.epoch = epoch;
  }

  static readonly contentType = "application/vnd.anybroker.migration-barrier";

  toBytes(): Uint8Array {
    return Buffer.concat([MAGIC, Buffer.from(String(this.epoch))]);
  }

  /** Undefined for another message. */
  static read(bytes: Uint8Array): Barrier | undefined {
    if (bytes.length <= MAGIC.length || bytes.length > MAGIC.length + 16) return undefined;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (!text.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
    const epoch = epochIn(text.subarray(MAGIC.length).toString());
    return epoch === undefined ? undefined : new Barrier(epoch);
  }
}

type Schema = NonNullable<Queue<unknown>["schema"]>;
type AnyDestination = Queue<never, unknown> | Topic<never, unknown>;

/**
 * The destination for one side. Barriers bypass its codec and schema. For the new broker it lacks the options whose loss was
 * accepted.
 */
export function carried(
  destination: AnyDestination,
  side: Side,
  accepted: readonly string[],
): Queue<unknown> & Topic<unknown> {
  const { name, options, schema, kind } = destination;
  const kept: Record<string, unknown> = { ...options, codec: markedCodec(options.codec ?? jsonCodec()) };
  if (side === "to") {
    if (accepted.includes("order")) delete kept.ordered;
    if (accepted.includes("durable")) delete kept.durable;
    if (accepted.includes("ttl")) delete kept.ttlMs;
    if (accepted.includes("priority") || accepted.includes("priorityLevels")) delete kept.priorities;
  }
  if (schema !== undefined) kept.schema = markedSchema(schema);
  return (kind === "queue" ? queue(name, kept) : topic(name, kept)) as Queue<unknown> & Topic<unknown>;
}

function markedCodec(codec: Codec): Codec {
  return {
    contentType: codec.contentType,
    encode: (body) => codec.encode(body),
    decode: (bytes) => Barrier.read(bytes) ?? codec.decode(bytes),
    keeps: (body) => codec.keeps?.(body) === true,
  };
}

function markedSchema(schema: Schema): Schema {
  const standard = schema["~standard"];
  return {
    "~standard": {
      ...standard,
      validate: (value) => (value instanceof Barrier ? { value } : standard.validate(value)),
    },
  };
}

type Carried = Queue<unknown> & Topic<unknown>;

/** Caches the destinations of each side. */
export class CarriedDestinations {
  readonly #made: Readonly<
    Record<Side, WeakMap<AnyDestination, { readonly accepted: string; readonly carried: Carried }>>
  > = {
    from: new WeakMap(),
    to: new WeakMap(),
  };

  of(destination: AnyDestination, side: Side, accepted: readonly string[]): Carried {
    const known = this.#made[side].get(destination);
    const names = accepted.join();
    if (known !== undefined && known.accepted === names) return known.carried;
    const made = carried(destination, side, accepted);
    this.#made[side].set(destination, { accepted: names, carried: made });
    return made;
  }
}
