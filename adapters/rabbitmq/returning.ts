import type { ConsumeMessage } from "amqplib";
import type { Settlement } from "../../core/adapter.ts";
import { messageId } from "./wire.ts";

interface Entry<Token> {
  readonly token: Token;
  readonly id: string;
  readonly since: number;
  /** What the engine decided meanwhile. */
  action: "ack" | undefined;
}

/**
 * Deliveries that were given back to be delivered to the same consumer again, by the ids of their messages: nothing else
 * of a delivery is the same when it comes back.
 */
export class Returning<Token extends { readonly message: ConsumeMessage }> {
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

  /** The delivery that came back with this message, and what is to be done with it; undefined if it is another one. */
  take(message: ConsumeMessage): { readonly token: Token; readonly action: "ack" | undefined } | undefined {
    if (this.#entries.size === 0) return undefined;
    const entry = this.#byId.get(messageId(message))?.[0];
    if (entry === undefined) return undefined;
    this.#remove(entry);
    return entry;
  }

  /** Settles one that is away; false if it is not, or was settled before. A requeued one comes back as another. */
  settle(token: Token, action: Settlement["action"]): boolean {
    const entry = this.#entries.get(token);
    if (entry === undefined || entry.action !== undefined) return false;
    if (action === "ack") entry.action = "ack";
    else this.#remove(entry);
    return true;
  }

  /** Takes out what was given back before a moment; the result is what of it is not settled. */
  removeOlder(than: number): readonly Token[] {
    const unsettled: Token[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.since > than) break;
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
