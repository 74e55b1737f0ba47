import { MessagingError } from "../../core/errors.ts";
import { ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, replyCode, replyText } from "./errors.ts";
import type { ServerWords } from "./server-words.ts";

/** Milliseconds for which a refused right is believed to be still missing. */
const REMEMBER_MS = 5_000;

/** What is published where. */
export interface PublishPath {
  readonly exchange: string;
  readonly routingKey: string;
}

/** A right that is missing. */
export interface RefusedPath {
  readonly exchange: string;
  /** Only what is published with this one, where a permission is about topics. */
  readonly routingKey: string | undefined;
  readonly error: MessagingError;
}

/** What the end of a channel tells. */
interface Learned {
  /** The exchange that does not exist. */
  readonly missing?: string | undefined;
  readonly refused?: RefusedPath;
}

/**
 * What the server closed a publishing channel for, remembered so that the same message does not close the next channel
 * under everybody else's.
 */
export class Refusals {
  /** By exchange, and by exchange and routing key where a permission is about topics. */
  readonly #places = new Map<string, { readonly error: MessagingError; readonly until: number }>();
  #mostBytes = Number.POSITIVE_INFINITY;

  /** Learns from amqplib's error of a closed channel: from all that it says, of which less may be shown. */
  learn(error: unknown, words: ServerWords): Learned {
    const text = replyText(error);
    const exchange = /exchange '([^']*)'/.exec(text)?.[1];
    switch (replyCode(error)) {
      case NOT_FOUND:
        return { missing: exchange };
      case ACCESS_REFUSED: {
        if (exchange === undefined) return {};
        const shown = words.error(error);
        const refusal = new MessagingError(
          "unauthorized",
          `RabbitMQ refused a publish: ${replyText(shown)}; grant the user the right to write there`,
          { cause: shown },
        );
        const name = exchange === "amq.default" ? "" : exchange;
        const routingKey = /access to topic '(.*)' in exchange/s.exec(text)?.[1];
        const place = routingKey === undefined ? name : topicPlace(name, routingKey);
        this.#places.set(place, { error: refusal, until: performance.now() + REMEMBER_MS });
        return { refused: { exchange: name, routingKey, error: refusal } };
      }
      case PRECONDITION_FAILED: {
        const most = /size \d+ is larger than (?:configured )?max size (\d+)/.exec(text)?.[1];
        if (most !== undefined) this.#mostBytes = Number(most);
        return {};
      }
      default:
        return {};
    }
  }

  /** Why a message of this size must not go there now; undefined if nothing is known against it. */
  of({ exchange, routingKey }: PublishPath, bytes: number): MessagingError | undefined {
    if (bytes > this.#mostBytes) return this.ofSize(bytes);
    if (this.#places.size === 0) return undefined;
    return this.#ofPlace(exchange) ?? this.#ofPlace(topicPlace(exchange, routingKey));
  }

  #ofPlace(place: string): MessagingError | undefined {
    const refusal = this.#places.get(place);
    if (refusal === undefined) return undefined;
    if (performance.now() < refusal.until) return refusal.error;
    this.#places.delete(place);
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
    this.#places.clear();
    this.#mostBytes = Number.POSITIVE_INFINITY;
  }
}

function topicPlace(exchange: string, routingKey: string): string {
  return `${exchange} ${routingKey}`;
}
