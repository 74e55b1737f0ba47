import { MessagingError } from "../../core/errors.ts";
import { ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, replyCode, replyText } from "./errors.ts";
import type { Redactor } from "./redactor.ts";

/** How long a refused permission counts as still missing, in milliseconds. */
const REMEMBER_MS = 5_000;

/** The exchange and routing key of a publish. */
export interface PublishPath {
  readonly exchange: string;
  readonly routingKey: string;
}

/** A missing permission. */
export interface RefusedPath {
  readonly exchange: string;
  /** The one routing key that is refused, for a topic permission. */
  readonly routingKey: string | undefined;
  readonly error: MessagingError;
}

/** What the error of a closed channel says. */
interface Learned {
  /** The exchange that does not exist. */
  readonly missing?: string | undefined;
  readonly refused?: RefusedPath;
}

/**
 * Remembers why the server closed a publishing channel, so that the same message does not close the next channel under
 * all other messages.
 */
export class Refusals {
  /** By exchange, or by exchange and routing key for topic permissions. */
  readonly #paths = new Map<string, { readonly error: MessagingError; readonly until: number }>();
  #maxBytes = Number.POSITIVE_INFINITY;

  /** Learns from amqplib's error of a closed channel. It reads the whole text, and keeps it redacted. */
  learn(error: unknown, redactor: Redactor): Learned {
    const text = replyText(error);
    const exchange = /exchange '([^']*)'/.exec(text)?.[1];
    switch (replyCode(error)) {
      case NOT_FOUND:
        return { missing: exchange };
      case ACCESS_REFUSED: {
        if (exchange === undefined) return {};
        const shown = redactor.error(error);
        const refusal = new MessagingError(
          "unauthorized",
          `RabbitMQ refused a publish: ${replyText(shown)}; grant the user the write permission there`,
          { cause: shown },
        );
        const name = exchange === "amq.default" ? "" : exchange;
        const routingKey = /access to topic '(.*)' in exchange/s.exec(text)?.[1];
        const path = routingKey === undefined ? name : topicPath(name, routingKey);
        this.#paths.set(path, { error: refusal, until: performance.now() + REMEMBER_MS });
        return { refused: { exchange: name, routingKey, error: refusal } };
      }
      case PRECONDITION_FAILED: {
        const max = /size \d+ is larger than (?:configured )?max size (\d+)/.exec(text)?.[1];
        if (max !== undefined) this.#maxBytes = Number(max);
        return {};
      }
      default:
        return {};
    }
  }

  /** Returns why a message of this size must not be published there now; undefined if no reason is known. */
  error({ exchange, routingKey }: PublishPath, bytes: number): MessagingError | undefined {
    if (bytes > this.#maxBytes) return this.sizeError(bytes);
    if (this.#paths.size === 0) return undefined;
    return this.#pathError(exchange) ?? this.#pathError(topicPath(exchange, routingKey));
  }

  #pathError(path: string): MessagingError | undefined {
    const refusal = this.#paths.get(path);
    if (refusal === undefined) return undefined;
    if (performance.now() < refusal.until) return refusal.error;
    this.#paths.delete(path);
    return undefined;
  }

  /** Returns the error if a message of this size is too large. */
  sizeError(bytes: number): MessagingError | undefined {
    if (bytes <= this.#maxBytes) return undefined;
    return new MessagingError(
      "too-large",
      `this RabbitMQ accepts at most ${this.#maxBytes} bytes per message (max_message_size), and the message has ${bytes}; send a reference to the data instead`,
    );
  }

  /** Forgets everything: a new connection may lead to a server with other settings. */
  clear(): void {
    this.#paths.clear();
    this.#maxBytes = Number.POSITIVE_INFINITY;
  }
}

function topicPath(exchange: string, routingKey: string): string {
  return `${exchange} ${routingKey}`;
}
