import { Fifo } from "./fifo.ts";
import type { PendingSend } from "./pending-send.ts";

/** What waits to be handed to the adapter, in the order in which it may be. */
export interface Backlog {
  push(send: PendingSend): void;
  /** Takes the next batch, within limits; a first message over the byte limit goes alone. */
  take(maxMessages: number, maxBytes: number): PendingSend[];
  /** A batch has come back: `again` are those of it to be handed over again, before anything later. */
  finish(batch: readonly PendingSend[], again: readonly PendingSend[]): void;
  /** One was answered while it waited. It is dropped sooner or later, together with others. */
  prune(): void;
}

/** So many answered ones may stay before the whole backlog is gone through. */
const SPARE = 64;

/** First come, first served. */
export class PlainBacklog implements Backlog {
  readonly #waiting = new Fifo<PendingSend>();
  #answered = 0;
  #most = SPARE;

  push(send: PendingSend): void {
    this.#waiting.push(send);
  }

  take(maxMessages: number, maxBytes: number): PendingSend[] {
    return takeFrom(this.#waiting, [], maxMessages, maxBytes);
  }

  finish(_batch: readonly PendingSend[], again: readonly PendingSend[]): void {
    if (again.length > 0) this.#waiting.putBack(again);
  }

  prune(): void {
    dropAnswered(this.#waiting);
    if (++this.#answered < this.#most) return;
    dropAllAnswered(this.#waiting);
    this.#answered = 0;
    this.#most = Math.max(SPARE, this.#waiting.size);
  }
}

/**
 * Keeps the order of each key over failures: while messages of a key are in flight, no later one of it is handed over.
 * Messages without a key have no order to keep.
 */
export class OrderedBacklog implements Backlog {
  readonly #byKey = new Map<string | undefined, Fifo<PendingSend>>();
  /** Keys with something waiting and nothing in flight, in the order they became so. */
  readonly #ready = new Set<string | undefined>();
  readonly #busy = new Set<string>();
  readonly #maxPerKey: number;
  #answered = 0;
  #most = SPARE;

  constructor(storesInOrder: boolean) {
    this.#maxPerKey = storesInOrder ? Number.POSITIVE_INFINITY : 1;
  }

  push(send: PendingSend): void {
    const { key } = send.message;
    this.#of(key).push(send);
    if (key === undefined || !this.#busy.has(key)) this.#ready.add(key);
  }

  take(maxMessages: number, maxBytes: number): PendingSend[] {
    const batch: PendingSend[] = [];
    for (const key of this.#ready) {
      const waiting = this.#of(key);
      const before = batch.length;
      const most = key === undefined ? maxMessages : Math.min(maxMessages, before + this.#maxPerKey);
      takeFrom(waiting, batch, most, maxBytes);
      if (waiting.size === 0) this.#byKey.delete(key);
      if (batch.length > before && key !== undefined) {
        this.#busy.add(key);
        this.#ready.delete(key);
      } else if (waiting.size === 0) {
        this.#ready.delete(key);
      } else {
        break; // The batch is full.
      }
      if (batch.length === maxMessages) break;
    }
    return batch;
  }

  finish(batch: readonly PendingSend[], again: readonly PendingSend[]): void {
    for (const { message } of batch) if (message.key !== undefined) this.#busy.delete(message.key);
    const returned = new Map<string | undefined, PendingSend[]>();
    for (const send of again) {
      const ofKey = returned.get(send.message.key);
      if (ofKey === undefined) returned.set(send.message.key, [send]);
      else ofKey.push(send);
    }
    for (const [key, sends] of returned) this.#of(key).putBack(sends);
    for (const { message } of batch) if (this.#byKey.has(message.key)) this.#ready.add(message.key);
  }

  prune(): void {
    if (++this.#answered < this.#most) return;
    let left = 0;
    for (const [key, waiting] of this.#byKey) {
      dropAllAnswered(waiting);
      left += waiting.size;
      if (waiting.size > 0) continue;
      this.#byKey.delete(key);
      this.#ready.delete(key);
    }
    this.#answered = 0;
    this.#most = Math.max(SPARE, left);
  }

  #of(key: string | undefined): Fifo<PendingSend> {
    let waiting = this.#byKey.get(key);
    if (waiting === undefined) {
      waiting = new Fifo();
      this.#byKey.set(key, waiting);
    }
    return waiting;
  }
}

function takeFrom(
  waiting: Fifo<PendingSend>,
  batch: PendingSend[],
  maxMessages: number,
  maxBytes: number,
): PendingSend[] {
  let bytes = 0;
  for (const send of batch) bytes += send.message.size;
  while (batch.length < maxMessages) {
    const next = waiting.peek();
    if (next === undefined) break;
    if (!next.answered) {
      if (batch.length > 0 && bytes + next.message.size > maxBytes) break;
      bytes += next.message.size;
      batch.push(next);
    }
    waiting.shift();
  }
  return batch;
}

function dropAnswered(waiting: Fifo<PendingSend>): void {
  while (waiting.peek()?.answered) waiting.shift();
}

function dropAllAnswered(waiting: Fifo<PendingSend>): void {
  const kept = [...waiting].filter((send) => !send.answered);
  if (kept.length === waiting.size) return;
  waiting.clear();
  waiting.putBack(kept);
}
