import type { BrokerInternals } from "../../core/broker-internals.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import { isThenable, unawaited } from "../../core/foreign.ts";
import { HEADER, MessagingError, type Queue, type Topic } from "../../core/index.ts";
import { asInvalid, type NewMessage, type Outgoing, outgoing, outgoingTo } from "../../core/publish/encode-message.ts";
import type { OutboxPublishOptions, OutboxSendOptions } from "./outbox.ts";
import type { NewOutboxRow } from "./store.ts";

/** Headers for the message that is being made. */
export type OutboxHeaders = () => Readonly<Record<string, string>>;

type Destination = Queue<never, unknown> | Topic<never, unknown>;
type Options = OutboxSendOptions & OutboxPublishOptions;

/** Makes the rows of an outbox with what makes a broker's messages, so that both refuse the same. */
export class Messages {
  readonly #broker: BrokerInternals;
  readonly #headers: OutboxHeaders | undefined;
  readonly #targets = new WeakMap<Destination, Outgoing>();

  constructor(broker: BrokerInternals, headers: OutboxHeaders | undefined) {
    this.#broker = broker;
    this.#headers = headers;
  }

  /** A promise only where the schema is asynchronous. Throws, or rejects with, what the broker would. */
  row(
    destination: Destination,
    kind: Destination["kind"],
    body: unknown,
    options: Options = {},
  ): NewOutboxRow | Promise<NewOutboxRow> {
    try {
      const known = destination?.kind === kind ? this.#targets.get(destination) : undefined;
      const target = known ?? this.#target(destination, kind);
      if ("timeoutMs" in options) {
        const why = "the outbox takes no timeoutMs: a relay tries until it is sent or quarantined. Leave it out";
        throw new MessagingError("invalid", `${target.where}: ${why}`);
      }
      const made = outgoing(target, body, this.#withHeaders(options));
      const { delayMs = 0 } = options;
      if (!(made instanceof Promise)) return rowOf(destination, made, delayMs);
      return made.then(
        (message) => rowOf(destination, message, delayMs),
        (error: unknown) => {
          throw asInvalid(error);
        },
      );
    } catch (error) {
      throw asInvalid(error);
    }
  }

  #withHeaders(options: Options): Options {
    if (this.#headers === undefined) return options;
    const common: unknown = unawaited(this.#headers());
    if (typeof common !== "object" || common === null || isThenable(common)) {
      throw new MessagingError(
        "invalid",
        "createOutbox { headers } has to return headers, at once. Nothing was written",
      );
    }
    return { ...options, headers: { ...common, ...options.headers } };
  }

  #target(destination: Destination, kind: Destination["kind"]): Outgoing {
    const { adapter, codec, clock, makeId } = this.#broker;
    const made = outgoingTo(destination, kind, adapter, codec, clock, makeId);
    // A name that the broker cannot carry is refused here, not at the relay.
    adapter.physicalName({ kind, name: destination.name });
    // The outbox itself keeps what is not due, for as long as it takes, on any broker.
    const delay = { support: "emulated", note: "the outbox keeps it until it is due", maxMs: LONGEST_MS } as const;
    const target = { ...made, capabilities: { ...made.capabilities, delay } };
    this.#targets.set(destination, target);
    return target;
  }
}

function rowOf(destination: Destination, message: NewMessage, delayMs: number): NewOutboxRow {
  const { kind, name, options } = destination;
  const { id, key, routingKey, headers, body, contentType, priority } = message;
  const expiresAt = headers[HEADER.expiresAt];
  return {
    id,
    to: { kind, name },
    key,
    routingKey,
    headers,
    body,
    contentType,
    priority,
    delayMs,
    expiresAt: expiresAt === undefined ? undefined : Number(expiresAt),
    ordered: options.ordered === true && key !== undefined,
    discardUnroutable: destination.kind === "topic" && destination.options.whenUnroutable === "discard",
  };
}
