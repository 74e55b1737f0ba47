import type { Adapter } from "./adapter.ts";
import { MessagingError } from "./errors.ts";

/** What an adapter has from its `open` to its `close`. */
export interface AdapterSession extends Pick<Adapter, "send" | "close"> {
  open(): Promise<void>;
}

/** The one session of an adapter, while it is open: made by `open`, gone with `close`, refused in between by name. */
export class CurrentSession<Session extends AdapterSession> {
  readonly #broker: string;
  #session: Session | undefined;

  /** `broker` as people write it: `RabbitMQ`. */
  constructor(broker: string) {
    this.#broker = broker;
  }

  /** Undefined while the adapter is not open. */
  get current(): Session | undefined {
    return this.#session;
  }

  /** Rejects with `invalid` if one is open, and as the session's own `open` does; then none is. */
  async open(make: () => Session): Promise<void> {
    if (this.#session !== undefined) {
      throw new MessagingError("invalid", `the ${this.#broker} adapter is open already`);
    }
    const session = make();
    this.#session = session;
    try {
      await session.open();
    } catch (error) {
      if (this.#session === session) this.#session = undefined;
      throw error;
    }
  }

  /** Rejects with `closed` while the adapter is not open. */
  async use<Result>(use: (session: Session) => Promise<Result>): Promise<Result> {
    if (this.#session === undefined) throw this.#notOpen();
    return await use(this.#session);
  }

  /** Reports everything `unknown` while the adapter is not open. */
  send(...[to, batch, report]: Parameters<Adapter["send"]>): void {
    if (this.#session !== undefined) {
      this.#session.send(to, batch, report);
      return;
    }
    for (let index = 0; index < batch.length; index++) report(index, { status: "unknown", cause: this.#notOpen() });
  }

  /** A second call does nothing. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  #notOpen(): MessagingError {
    return new MessagingError("closed", `the ${this.#broker} adapter is not open; start the broker first`);
  }
}
