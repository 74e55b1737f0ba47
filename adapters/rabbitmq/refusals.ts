import { MessagingError } from "../../core/errors.ts";
import { ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, replyCode, replyText } from "./errors.ts";

/** Milliseconds for which a refused right is believed to be still missing. */
const REMEMBER_MS = 5_000;

/**
 * What the server closed a publishing channel for, remembered so that the same message does not close the next channel
 * under everybody else's.
 */
export class Refusals {
  readonly #exchanges = new Map<string, { readonly error: MessagingError; readonly until: number }>();
  #mostBytes = Number.POSITIVE_INFINITY;

  /** Learns from the error of a closed channel; the result is the exchange that does not exist, if that was it. */
  learn(error: unknown): string | undefined {
    const text = replyText(error);
    const exchange = /exchange '([^']*)'/.exec(text)?.[1];
    switch (replyCode(error)) {
      case NOT_FOUND:
        return exchange;
      case ACCESS_REFUSED: {
        if (exchange === undefined) return undefined;
        const refusal = new MessagingError(
          "unauthorized",
          `RabbitMQ refused a publish: ${text}; grant the user the right to write there`,
          { cause: error },
        );
        const name = exchange === "amq.default" ? "" : exchange;
        this.#exchanges.set(name, { error: refusal, until: performance.now() + REMEMBER_MS });
        return undefined;
      }
      case PRECONDITION_FAILED: {
        const most = /size \d+ is larger than (?:configured )?max size (\d+)/.exec(text)?.[1];
        if (most !== undefined) this.#mostBytes = Number(most);
        return undefined;
      }
      default:
        return undefined;
    }
  }

  /** Why a message of this size must not go to this exchange now; undefined if nothing is known against it. */
  of(exchange: string, bytes: number): MessagingError | undefined {
    if (bytes > this.#mostBytes) return this.ofSize(bytes);
    if (this.#exchanges.size === 0) return undefined;
    const refusal = this.#exchanges.get(exchange);
    if (refusal === undefined) return undefined;
    if (performance.now() < refusal.until) return refusal.error;
    this.#exchanges.delete(exchange);
    return undefined;
  }

  /** Why a message of this size is refused, if it is. */
  ofSize(bytes: number): MessagingError | undefined {
    if (bytes <= this.#mostBytes) return undefined;
    return new MessagingError(
      "too-large",
      `this RabbitMQ takes ${this.#mostBytes} bytes at most (its max_message_size), the message has ${bytes}; send a reference to the data instead`,
    );
  }

  /** Forgets everything: another connection may be to a server with other settings. */
  clear(): void {
    this.#exchanges.clear();
    this.#mostBytes = Number.POSITIVE_INFINITY;
  }
}
