import type { ChannelModel } from "amqplib";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { within } from "./deadline.ts";
import type { Settings } from "./options.ts";
import { currentPassword, type Password } from "./password.ts";

/** A token is replaced when this much of its time is over. */
const USED = 0.8;
/** Between tries that fail. */
const AGAIN_MS = 5_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Gives the server a new token before the old one is over, so that it does not end the connection. */
export class Renewal {
  readonly #model: ChannelModel;
  readonly #settings: Settings;
  readonly #failed: (error: MessagingError) => void;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  /** `failed` is told why no new one was given; it is tried again until the server ends the connection. */
  constructor(model: ChannelModel, settings: Settings, failed: (error: MessagingError) => void) {
    this.#model = model;
    this.#settings = settings;
    this.#failed = failed;
  }

  /** Replaces a password that is in use before it expires, if it does. */
  before({ expiresAt }: Password): void {
    const leftMs = expiresAt === undefined ? 0 : expiresAt - Date.now();
    // What is over already, by this clock, the server has taken all the same.
    if (leftMs > 0) this.#later(Math.min(leftMs * USED, LONGEST_TIMER_MS));
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #later(ms: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => void this.#renew(), ms);
    this.#timer.unref();
  }

  async #renew(): Promise<void> {
    const { requestTimeoutMs } = this.#settings;
    try {
      const password = await currentPassword(this.#settings, requestTimeoutMs);
      if (this.#isOver) return;
      const updated = this.#model.updateSecret(Buffer.from(password.value), "the token is about to expire");
      await within(requestTimeoutMs, "take a new token", updated);
      this.before(password);
    } catch (error) {
      if (this.#isOver) return;
      this.#failed(isMessagingError(error) ? error : refused(this.#settings.words.error(error)));
      this.#later(AGAIN_MS);
    }
  }
}

function refused(cause: unknown): MessagingError {
  return new MessagingError(
    "unauthorized",
    "RabbitMQ was not given a new token before the old one is over; see the cause",
    {
      cause,
    },
  );
}
