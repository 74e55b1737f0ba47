import type { MessagingError } from "../../core/errors.ts";
import { isUnreadable } from "./errors.ts";
import type { Hosts } from "./hosts.ts";
import { type Link, type LinkEvents, SupervisedLink } from "./link.ts";
import type { Settings } from "./options.ts";

/**
 * The connection that a receiver consumes on: the one all share, until a message came in that amqplib cannot read and
 * that broke it for all. From then on each receiver has its own, so that the message breaks only the one it comes to.
 */
export class ReceiverLink {
  readonly #settings: Settings;
  readonly #hosts: Hosts;
  readonly #shared: () => Link | undefined;
  #own: SupervisedLink | undefined;

  constructor(settings: Settings, hosts: Hosts, shared: () => Link | undefined) {
    this.#settings = settings;
    this.#hosts = hosts;
    this.#shared = shared;
  }

  get current(): Link | undefined {
    return this.#own === undefined ? this.#shared() : this.#own.current;
  }

  get isOwn(): boolean {
    return this.#own !== undefined;
  }

  /** Makes a connection of its own, and calls `restored` each time that it stands. */
  separate(events: {
    restored(): void;
    /** It broke on a message that amqplib cannot read. */
    unreadable(cause: MessagingError): void;
    notice(error: MessagingError): void;
  }): void {
    if (this.#own !== undefined) return;
    const linkEvents: LinkEvents = {
      prepare: () => Promise.resolve(),
      lost: (cause) => (isUnreadable(cause.cause) ? events.unreadable(cause) : events.notice(cause)),
      restored: () => events.restored(),
      refused: (error) => events.notice(error),
    };
    this.#own = new SupervisedLink(this.#settings, this.#hosts, "consume", linkEvents);
    this.#own.start();
  }

  async close(): Promise<void> {
    await this.#own?.close();
  }
}
