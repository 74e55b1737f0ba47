import assert from "node:assert/strict";
import { addressName, HEADER, type IncomingMessage, type WorkAddress } from "../../core/index.ts";
import type { CaseContext } from "./context.ts";
import { type Inbox, outgoing, Seam } from "./seam.ts";

const PREFETCH = 1_000;

/** The dead letters of one queue or subscription, read through the adapter as they arrive, none of them settled. */
export class DeadLetterReader {
  readonly #context: CaseContext;
  readonly #of: WorkAddress;
  readonly #seam: Seam;
  readonly #inbox: Inbox;
  readonly #endMark: string;

  private constructor(context: CaseContext, of: WorkAddress, seam: Seam, inbox: Inbox) {
    this.#context = context;
    this.#of = of;
    this.#seam = seam;
    this.#inbox = inbox;
    this.#endMark = context.id();
  }

  /** Begins to read. The queue or subscription must have been declared. */
  static async open(context: CaseContext, of: WorkAddress): Promise<DeadLetterReader> {
    const seam = await Seam.open(context.harness.adapter());
    context.cleanUp(() => seam.close());
    const inbox = await seam.receive({ kind: "dead-letters", of }, { prefetch: PREFETCH, ordered: false });
    return new DeadLetterReader(context, of, seam, inbox);
  }

  /** What has arrived so far. */
  get messages(): readonly IncomingMessage[] {
    return this.#inbox.messages.filter((message) => message.id !== this.#endMark);
  }

  /** Waits for so many. */
  async until(count: number): Promise<void> {
    const what = `${count} dead letters of ${addressName(this.#of)}`;
    await this.#context.until(what, () => this.messages.length >= count);
  }

  /**
   * Everything that stands in the dead letters, booked in the ledger. Nothing may be adding to them any more. A mark is
   * sent behind the last of them, so that "no more came" is seen rather than assumed after a while.
   */
  async all(): Promise<readonly IncomingMessage[]> {
    await this.#seam.confirmed({ kind: "dead-letters", of: this.#of }, [outgoing({ id: this.#endMark })]);
    const marked = (): boolean => this.#inbox.messages.some((message) => message.id === this.#endMark);
    await this.#context.until(`the mark behind the dead letters of ${addressName(this.#of)}`, marked);
    for (const { id } of this.messages) this.#context.ledger.deadLettered(addressName(this.#of), id);
    return this.messages;
  }

  /** The message that a dead letter stands for: mostly itself. */
  async original(letter: IncomingMessage): Promise<IncomingMessage> {
    if (letter.headers[HEADER.deadReference] === undefined) return letter;
    const messages = await this.#seam.adapter.resolve?.({ kind: "dead-letters", of: this.#of }, letter);
    const [message, ...more] = messages ?? [];
    assert.ok(message !== undefined && more.length === 0, `dead letter ${letter.id} refers to no one message`);
    return message;
  }
}
