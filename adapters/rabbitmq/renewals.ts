import type { ConsumeMessage } from "amqplib";
import { messageId } from "./message-codec.ts";

/** A delivery that was requeued for renewal. */
export interface Renewed<Token> {
  readonly token: Token;
  /** What the engine decided while it was away. */
  readonly action: "ack" | undefined;
}

interface Entry<Token> {
  token: Token;
  readonly id: string;
  readonly since: number;
  action: "ack" | undefined;
}

/**
 * Deliveries that were requeued in order to come back to the same consumer. They are found by message id, because
 * nothing else of a delivery stays the same.
 */
export class Renewals<Token extends { readonly message: ConsumeMessage }> {
  readonly #entries = new Map<Token, Entry<Token>>();
  readonly #byId = new Map<string, Entry<Token>[]>();

  get size(): number {
    return this.#entries.size;
  }

  add(token: Token): void {
    const id = messageId(token.message);
    const entry: Entry<Token> = { token, id, since: performance.now(), action: undefined };
    this.#entries.set(token, entry);
    const twins = this.#byId.get(id);
    if (twins === undefined) this.#byId.set(id, [entry]);
    else twins.push(entry);
  }

  /** The delivery that comes back with this message, and what to do with it; undefined for any other message. */
  take(message: ConsumeMessage): Renewed<Token> | undefined {
    if (this.#entries.size === 0) return undefined;
    const entry = this.#byId.get(messageId(message))?.[0];
    if (entry === undefined) return undefined;
    this.#remove(entry);
    return entry;
  }

  /** Acknowledges a delivery that is away, once it is back; false if it is not away, or was acknowledged. */
  ack(token: Token): boolean {
    const entry = this.#entries.get(token);
    if (entry === undefined || entry.action !== undefined) return false;
    entry.action = "ack";
    return true;
  }

  /** Has a delivery that is away come back for another token; false as for {@link ack}. */
  replace(token: Token, next: Token): boolean {
    const entry = this.#entries.get(token);
    if (entry === undefined || entry.action !== undefined) return false;
    this.#entries.delete(token);
    entry.token = next;
    this.#entries.set(next, entry);
    return true;
  }

  /** Removes the entries up to a time, and returns the unsettled ones. */
  removeOlder(than: number): readonly Token[] {
    const unsettled: Token[] = [];
    for (const entry of [...this.#entries.values()]) {
      if (entry.since > than) continue;
      this.#remove(entry);
      if (entry.action === undefined) unsettled.push(entry.token);
    }
    return unsettled;
  }

  #remove(entry: Entry<Token>): void {
    this.#entries.delete(entry.token);
    const twins = this.#byId.get(entry.id)?.filter((twin) => twin !== entry);
    if (twins === undefined || twins.length === 0) this.#byId.delete(entry.id);
    else this.#byId.set(entry.id, twins);
  }
}
