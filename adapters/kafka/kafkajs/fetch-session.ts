import type { FetchedFrom, FetchedPartition, TopicId, TopicPartition } from "../port.ts";
import type { Fetched, WireFetch } from "./log-exchanges.ts";

const NO_SESSION = 0;
const FIRST_EPOCH = 0;
const HIGHEST_EPOCH = 2 ** 31 - 1;

/** A partition of the session: what the server was asked, and what it said of it last. */
interface Known {
  readonly wanted: FetchedFrom;
  last: FetchedPartition | undefined;
}

/**
 * What a node remembers of a long poll (KIP-227), so that neither side repeats it: of a poll only changes are sent, and of its
 * answer only what is new. Where the node has no room for it every poll says and gets everything.
 */
export class FetchSession {
  #id = NO_SESSION;
  #epoch = FIRST_EPOCH;
  #known = new Map<string, Known>();
  #names = new Map<TopicId, string>();

  /** What to send so that these are asked about, each partition once. */
  ask(wanted: readonly FetchedFrom[]): Pick<WireFetch, "partitions" | "session"> {
    if (this.#epoch === FIRST_EPOCH) {
      this.#known = new Map();
      this.#names = new Map();
    }
    const before = this.#known;
    const known = new Map<string, Known>();
    const partitions: FetchedFrom[] = [];
    const forgotten: FetchedFrom[] = [];
    for (const one of wanted) {
      const name = partitionName(one);
      const found = before.get(name);
      if (found !== undefined && isSame(found.wanted, one)) {
        known.set(name, found);
        continue;
      }
      // The server tells partitions apart by the ids of their topics.
      if (found !== undefined && found.wanted.topicId !== one.topicId) forgotten.push(found.wanted);
      partitions.push(one);
      known.set(name, { wanted: one, last: undefined });
      this.#names.set(one.topicId, one.topic);
    }
    for (const [name, { wanted: gone }] of before) if (!known.has(name)) forgotten.push(gone);
    this.#known = known;
    return { partitions, session: { id: this.#id, epoch: this.#epoch, forgotten, names: this.#names } };
  }

  /** Takes an answer. */
  answered({ sessionId, partitions }: Fetched): void {
    this.#id = sessionId;
    if (sessionId === NO_SESSION) this.#epoch = FIRST_EPOCH;
    else this.#epoch = this.#epoch === HIGHEST_EPOCH ? 1 : this.#epoch + 1;
    for (const fetched of partitions) {
      const known = this.#known.get(partitionName(fetched));
      if (known !== undefined) known.last = { ...fetched, records: NOTHING, abortedTransactions: [] };
    }
  }

  /** What the node said last of a partition that it has no news of. */
  lastOf(at: TopicPartition): FetchedPartition | undefined {
    return this.#known.get(partitionName(at))?.last;
  }

  /** Whether the node was told everything in the last poll. */
  get isNew(): boolean {
    return this.#epoch === FIRST_EPOCH;
  }

  /** What the node remembers is not known: the next poll says everything. */
  forget(): void {
    this.#epoch = FIRST_EPOCH;
  }
}

const NOTHING = Buffer.alloc(0);

export function partitionName({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

export function isSame(one: FetchedFrom, other: FetchedFrom): boolean {
  return one.offset === other.offset && one.maxBytes === other.maxBytes && one.topicId === other.topicId;
}
