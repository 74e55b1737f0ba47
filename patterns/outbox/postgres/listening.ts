import type { Clock, Timer } from "../../../core/index.ts";
import type { PostgresListener, PostgresOutboxDatabase } from "./connection.ts";

const RECONNECT_MS = 1_000;

/** A connection that waits for notifications, and is made again when it is lost. */
export class Listening {
  readonly #database: PostgresOutboxDatabase;
  readonly #channel: string;
  readonly #clock: Clock;
  readonly #wake: () => void;
  #connection: PostgresListener | undefined;
  #timer: Timer | undefined;
  #ended = false;

  constructor(database: PostgresOutboxDatabase, channel: string, clock: Clock, wake: () => void) {
    this.#database = database;
    this.#channel = channel;
    this.#clock = clock;
    this.#wake = wake;
  }

  /** Never rejects: what fails is tried again later. */
  async begin(): Promise<void> {
    let connection: PostgresListener | undefined;
    try {
      connection = await this.#database.connect?.();
      if (connection === undefined) return;
      if (this.#ended) {
        connection.release();
        return;
      }
      this.#connection = connection;
      connection.on("notification", this.#wake);
      connection.on("error", this.#lost);
      connection.on("end", this.#lost);
      await connection.query(`LISTEN "${this.#channel}"`);
      // What was notified while nobody listened.
      if (!this.#ended) this.#wake();
    } catch {
      if (connection === undefined) this.#again();
      else this.#lost();
    }
  }

  /** A second call does nothing. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#letGo();
  }

  readonly #lost = (): void => {
    if (this.#connection === undefined) return;
    this.#letGo();
    this.#again();
  };

  #again(): void {
    if (!this.#ended) this.#timer = this.#clock.schedule(() => void this.begin(), RECONNECT_MS);
  }

  /** Closed, not given back: the next user must not get the notifications, nor a connection that broke. */
  #letGo(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined) return;
    connection.off("notification", this.#wake);
    connection.off("end", this.#lost);
    // The listener of errors stays: one that comes late would end the process.
    connection.release(true);
  }
}
