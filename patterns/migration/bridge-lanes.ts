import { Fifo } from "../../core/fifo.ts";
import type { IncomingMessage, MessagingError } from "../../core/index.ts";

/** A message in the hands of a bridge. */
export interface InHand {
  readonly message: IncomingMessage;
  /** `left`: it cannot go, and is held so that it does not come again and again. */
  state: "waiting" | "sending" | "acknowledging" | "left";
  /** The old broker has it back. */
  lost: boolean;
  /** Sends without an answer, in a row. */
  failures: number;
}

/**
 * What may be sent next. Where order is kept, one message of a key at a time, oldest first; behind one that has to stay,
 * its key stays.
 */
export class BridgeLanes {
  readonly #ordered: boolean;
  readonly #ready = new Fifo<InHand>();
  /** Keys with something under way, and what waits behind it. */
  readonly #busy = new Map<string, Fifo<InHand>>();
  readonly #stuck = new Map<string, MessagingError>();

  constructor(ordered: boolean) {
    this.#ordered = ordered;
  }

  push(held: InHand): void {
    const { key } = held.message;
    if (!this.#ordered || key === undefined) {
      this.#ready.push(held);
      return;
    }
    const behind = this.#busy.get(key);
    if (behind !== undefined) {
      behind.push(held);
      return;
    }
    this.#busy.set(key, new Fifo());
    this.#ready.push(held);
  }

  take(): InHand | undefined {
    return this.#ready.shift();
  }

  /** To be sent again, before all others. */
  putBack(held: InHand): void {
    this.#ready.putBack([held]);
  }

  /** Why a message cannot go, because one of its key before it could not. */
  stuck({ message: { key } }: InHand): MessagingError | undefined {
    return this.#ordered && key !== undefined ? this.#stuck.get(key) : undefined;
  }

  /** One is done with; `error` if it stays, and its key with it. */
  leave({ message: { key } }: InHand, error?: MessagingError): void {
    if (!this.#ordered || key === undefined) return;
    if (error !== undefined) this.#stuck.set(key, error);
    const next = this.#busy.get(key)?.shift();
    if (next === undefined) this.#busy.delete(key);
    else this.#ready.push(next);
  }

  /** Empties the lanes of what waits. */
  clear(): void {
    this.#ready.clear();
    this.#busy.clear();
    this.#stuck.clear();
  }
}
