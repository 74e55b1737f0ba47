import type { InboxEnd, InboxMessage } from "../../patterns/outbox/inbox-store.ts";
import { LONG_MS, type StoreContext } from "../stores/suite.ts";
import type { InboxHarness, InboxPlace, OpenInbox } from "./harness.ts";

/** The message of an id, for one consumer. */
export const message = (id: string, consumer = "orders"): InboxMessage => ({ consumer, id });

/** Options of {@link handle}. */
export interface Handling {
  readonly waitMs?: number;
  readonly signal?: AbortSignal;
  /** Runs after the effect. Resolves with whether to commit. Default: true. */
  readonly afterwards?: (transaction: unknown) => Promise<boolean>;
}

/** An empty inbox that is removed at the end of the case. */
export class Inboxes {
  readonly context: StoreContext<InboxHarness>;
  readonly place: InboxPlace<unknown>;

  private constructor(context: StoreContext<InboxHarness>, place: InboxPlace<unknown>) {
    this.context = context;
    this.place = place;
    context.cleanUp(() => place.remove());
  }

  static async make(context: StoreContext<InboxHarness>): Promise<Inboxes> {
    return new Inboxes(context, await context.harness.place());
  }

  async open(): Promise<OpenInbox<unknown>> {
    const opened = await this.place.open();
    this.context.cleanUp(() => opened.close());
    return opened;
  }

  /** The committed effects, sorted. */
  async effects(): Promise<readonly string[]> {
    return [...(await this.place.effects())].sort();
  }
}

/** Handles a message. Its effect is its id by default. */
export function handle(
  { inbox, write }: OpenInbox<unknown>,
  of: InboxMessage,
  { waitMs = LONG_MS, signal = new AbortController().signal, afterwards = async () => true }: Handling = {},
  effect = of.id,
): Promise<InboxEnd> {
  const work = async (transaction: unknown): Promise<boolean> => {
    await write(transaction, effect);
    return afterwards(transaction);
  };
  return inbox.handle(of, work, { waitMs, signal });
}
