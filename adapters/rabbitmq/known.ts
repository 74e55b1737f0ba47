import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { withChannel } from "./channels.ts";
import { NOT_FOUND, operationError, replyCode } from "./errors.ts";
import type { Link } from "./link.ts";

/** A queue or an exchange. */
export type Thing = `queue ${string}` | `exchange ${string}`;

/**
 * What is known to stand on the broker. One publish to an exchange that does not exist closes the channel under every
 * other publish on it, so that an exchange is looked for once, on a channel of its own, before anything goes there.
 */
export class KnownThings {
  readonly #link: () => Link | undefined;
  readonly #requestTimeoutMs: number;
  readonly #restore: () => Promise<boolean>;
  readonly #standing = new Set<Thing>();
  /** What this adapter declared, and may make again. */
  readonly #declared = new Set<Thing>();
  /** What stands with the properties that this adapter gives it, as far as is known. */
  readonly #verified = new Set<Thing>();
  readonly #checks = new Map<Thing, Promise<void>>();

  /** `restore` declares everything again that was declared, and tells whether it could; it never rejects. */
  constructor(link: () => Link | undefined, restore: () => Promise<boolean>, requestTimeoutMs: number) {
    this.#link = link;
    this.#restore = restore;
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  has(thing: Thing): boolean {
    return this.#standing.has(thing);
  }

  add(thing: Thing): void {
    this.#standing.add(thing);
  }

  /** Stands because it was declared, and is to be declared again if it ever does not. */
  declared(thing: Thing): void {
    this.#standing.add(thing);
    this.#declared.add(thing);
    this.#verified.add(thing);
  }

  isDeclared(thing: Thing): boolean {
    return this.#declared.has(thing);
  }

  /** All that this adapter declared. */
  get declaredThings(): readonly Thing[] {
    return [...this.#declared];
  }

  /** Whether it was declared as this adapter declares it, and nothing was heard against that since. */
  isVerified(thing: Thing): boolean {
    return this.#verified.has(thing);
  }

  forget(thing: Thing): void {
    this.#standing.delete(thing);
    this.#verified.delete(thing);
  }

  /** The connection was lost: whatever stands has to be seen anew. */
  forgetAll(): void {
    this.#standing.clear();
    this.#verified.clear();
  }

  /**
   * Looks for it unless it is known, and makes it again if it was declared here. Rejects with `not-found` if it is
   * missing all the same, with another code if nobody could look.
   */
  check(thing: Thing): Promise<void> {
    if (this.#standing.has(thing)) return Promise.resolve();
    const running = this.#checks.get(thing);
    if (running !== undefined) return running;
    const check = this.#lookOrRestore(thing).finally(() => this.#checks.delete(thing));
    this.#checks.set(thing, check);
    return check;
  }

  /**
   * A queue that its exchange should lead to did not take a message: it is gone, or not bound any more. Makes it again if
   * it was declared here; otherwise, or if it cannot be made, rejects with `not-found`.
   */
  async mend(thing: Thing): Promise<void> {
    this.forget(thing);
    if (this.#declared.has(thing)) return this.#makeAgain(thing, missing(thing));
    await this.#look(thing);
    const name = thing.slice(thing.indexOf(" ") + 1);
    throw new MessagingError(
      "not-found",
      `the exchange "${name}" of RabbitMQ does not lead to the queue "${name}"; ${DECLARE_IT}`,
    );
  }

  async #lookOrRestore(thing: Thing): Promise<void> {
    try {
      await this.#look(thing);
    } catch (error) {
      if (!isMessagingError(error, "not-found") || !this.#declared.has(thing)) throw error;
      await this.#makeAgain(thing, error);
    }
  }

  async #makeAgain(thing: Thing, gone: MessagingError): Promise<void> {
    let couldAsk = await this.#restore();
    // One that was under way may have come by before it vanished.
    if (couldAsk && !this.#standing.has(thing)) couldAsk = await this.#restore();
    if (this.#standing.has(thing)) return;
    throw couldAsk
      ? gone
      : new MessagingError("unreachable", `not connected to RabbitMQ while ${thing} was made again`);
  }

  async #look(thing: Thing): Promise<void> {
    const link = this.#link();
    if (link === undefined) throw new MessagingError("unreachable", "not connected to RabbitMQ at the moment");
    const isQueue = thing.startsWith("queue ");
    const name = thing.slice(thing.indexOf(" ") + 1);
    try {
      await withChannel(link, this.#requestTimeoutMs, `look for ${thing}`, (channel) =>
        isQueue ? channel.checkQueue(name) : channel.checkExchange(name).then(() => undefined),
      );
    } catch (error) {
      if (replyCode(error) === NOT_FOUND) throw missing(thing, error);
      throw operationError(error, `look for ${thing}`, "try again");
    }
    this.#standing.add(thing);
  }
}

/** A destination that does not stand on the broker. */
export function missing(thing: Thing, cause?: unknown): MessagingError {
  const [kind, name] = thing.split(" ");
  return new MessagingError(
    "not-found",
    `RabbitMQ has no ${kind} "${name}"; ${DECLARE_IT}, which need the rights to configure`,
    { cause },
  );
}
