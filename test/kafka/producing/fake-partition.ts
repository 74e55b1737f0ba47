import { gunzipSync } from "node:zlib";
import { AT, COMPRESSION_BITS, LENGTH_COVERS_FROM } from "../../../adapters/kafka/records/batch.ts";
import { decodeNow, valuesOf, withChecksum } from "../records/batches.ts";

/** How many batches of a producer a broker knows again. */
const REMEMBERED = 5;
const SEQUENCES = 2 ** 31;

interface ProducerState {
  readonly epoch: number;
  readonly batches: { readonly first: number; readonly last: number; readonly offset: number }[];
}

/** What a partition says to a batch. */
export interface Appended {
  readonly error: string | undefined;
  readonly offset: number;
}

/** A partition that checks producers and their sequences as Kafka does: by the last five batches of each. */
export class FakePartition {
  leader: number;
  /** What was appended, in order. */
  readonly values: string[] = [];
  /** The batches as they came, also those known again. */
  readonly received: Buffer[] = [];
  readonly #producers = new Map<bigint, ProducerState>();

  constructor(leader: number) {
    this.leader = leader;
  }

  append(batch: Buffer, mostBytes: number): Appended {
    this.received.push(Buffer.from(batch));
    if (batch.length > mostBytes) return { error: "MESSAGE_TOO_LARGE", offset: -1 };
    const { records, unreadable } = decodeNow(inflated(batch));
    if (unreadable !== undefined) return { error: "CORRUPT_MESSAGE", offset: -1 };
    const values = valuesOf(records).map(String);
    if (values.some((value) => value.startsWith("invalid"))) return { error: "INVALID_RECORD", offset: -1 };
    const producerId = batch.readBigInt64BE(AT.producerId);
    const epoch = batch.readInt16BE(AT.producerEpoch);
    const first = batch.readInt32BE(AT.baseSequence);
    const last = (first + values.length - 1) % SEQUENCES;
    const known = this.#producers.get(producerId);
    if (known !== undefined) {
      if (epoch < known.epoch) return { error: "INVALID_PRODUCER_EPOCH", offset: -1 };
      const before = known.batches.find((one) => one.first === first && one.last === last);
      if (before !== undefined) return { error: undefined, offset: before.offset };
      if (first !== ((known.batches.at(-1)?.last ?? -1) + 1) % SEQUENCES) {
        return { error: "OUT_OF_ORDER_SEQUENCE_NUMBER", offset: -1 };
      }
    }
    const offset = this.values.length;
    this.values.push(...values);
    const batches = [...(known?.batches ?? []), { first, last, offset }].slice(-REMEMBERED);
    this.#producers.set(producerId, { epoch, batches });
    return { error: undefined, offset };
  }

  /** Forgets all producers, as when their time is over. */
  forgetProducers(): void {
    this.#producers.clear();
  }

  /** Believes that a producer has gone on to a sequence. */
  pretend(producerId: bigint, last: number): void {
    this.#producers.set(producerId, { epoch: 0, batches: [{ first: last, last, offset: 0 }] });
  }
}

/** The batch as it was before it was compressed by gzip. */
function inflated(batch: Buffer): Buffer {
  if ((batch.readInt16BE(AT.attributes) & COMPRESSION_BITS) !== 1) return batch;
  const plain = Buffer.concat([batch.subarray(0, AT.records), gunzipSync(batch.subarray(AT.records))]);
  plain.writeInt16BE(0, AT.attributes);
  plain.writeInt32BE(plain.length - LENGTH_COVERS_FROM, AT.length);
  return withChecksum(plain);
}
