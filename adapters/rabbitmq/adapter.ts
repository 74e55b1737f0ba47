import type { ChannelModel, ConsumeMessage } from "amqplib";
import type {
  Adapter,
  AdapterSignals,
  DeliverySink,
  Depth,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendLimits,
  SendReport,
  Topology,
} from "../../core/adapter.ts";
import type { Address, Source } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { CAPABILITIES } from "./capabilities.ts";
import { physicalName } from "./names.ts";
import { type RabbitMQOptions, resolveOptions, type Settings } from "./options.ts";
import { Session } from "./session.ts";

const SEND_LIMITS: SendLimits = Object.freeze({
  maxBatchMessages: 256,
  maxBatchBytes: 4 * 1024 * 1024,
  maxBatchesInFlight: 1024,
});

/** The client library's connections of one adapter; undefined while one is down. */
export interface RabbitMQConnections {
  readonly publishing: ChannelModel | undefined;
  readonly consuming: ChannelModel | undefined;
}

/** anybroker's side of RabbitMQ, over AMQP 0-9-1. Made by {@link rabbitmq}. */
export class RabbitMQAdapter implements Adapter<ConsumeMessage> {
  readonly name = "rabbitmq";
  readonly capabilities = CAPABILITIES;
  readonly sendLimits = SEND_LIMITS;
  readonly #settings: Settings;
  #session: Session | undefined;

  constructor(options: RabbitMQOptions) {
    this.#settings = resolveOptions(options);
  }

  /**
   * amqplib's own connections while they stand, for what anybroker does not offer: make a channel of your own on them.
   * After a loss they are others, so ask again instead of keeping one. Closing one is mended like any loss.
   */
  get connections(): RabbitMQConnections {
    return this.#session?.connections ?? { publishing: undefined, consuming: undefined };
  }

  physicalName(address: Address): string {
    return physicalName(address);
  }

  async open(signals: AdapterSignals): Promise<void> {
    if (this.#session !== undefined) throw new MessagingError("invalid", "the RabbitMQ adapter is open already");
    const session = new Session(this.#settings, signals);
    this.#session = session;
    try {
      await session.open();
    } catch (error) {
      if (this.#session === session) this.#session = undefined;
      throw error;
    }
  }

  declare(topology: Topology): Promise<readonly MessagingError[]> {
    return this.#opened((session) => session.declare(topology));
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    const session = this.#session;
    if (session !== undefined) {
      session.send(to, batch, report);
      return;
    }
    for (let index = 0; index < batch.length; index++) report(index, { status: "unknown", cause: notOpen() });
  }

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<ConsumeMessage>): Promise<Receiver> {
    return this.#opened((session) => session.receive(from, options, sink));
  }

  depth(of: Address): Promise<Depth> {
    return this.#opened((session) => session.depth(of));
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  async #opened<Result>(use: (session: Session) => Promise<Result>): Promise<Result> {
    if (this.#session === undefined) throw notOpen();
    return await use(this.#session);
  }
}

function notOpen(): MessagingError {
  return new MessagingError("closed", "the RabbitMQ adapter is not open; start the broker first");
}
