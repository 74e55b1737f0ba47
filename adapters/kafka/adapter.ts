import { Kafka, logLevel, type SASLOptions } from "kafkajs";
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
  StartPosition,
  Topology,
} from "../../core/adapter.ts";
import type { Address, Source, SubscriptionAddress } from "../../core/address.ts";
import type { Capabilities } from "../../core/capabilities.ts";
import { MessagingError } from "../../core/errors.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { kafkaJsClient } from "./kafkajs/index.ts";
import type { KafkaRecord } from "./message.ts";
import { physicalName } from "./names.ts";
import { type KafkaOptions, resolveOptions, type Settings } from "./options.ts";
import type { KafkaClient } from "./port.ts";
import { Session } from "./session.ts";

const SEND_LIMITS: SendLimits = Object.freeze({
  maxBatchMessages: 2_000,
  maxBatchBytes: 1024 * 1024,
  maxBatchesInFlight: 5,
  // The producer is idempotent, and what stands behind a failure in its partition is not sent.
  storesInOrder: true,
});

/** anybroker's side of Kafka. Made by {@link kafka}. */
export class KafkaAdapter implements Adapter<KafkaRecord> {
  readonly name = "kafka";
  readonly capabilities: Capabilities;
  readonly sendLimits = SEND_LIMITS;
  readonly #settings: Settings;
  readonly #client: KafkaClient;
  #session: Session | undefined;

  constructor(options: KafkaOptions) {
    this.#settings = resolveOptions(options);
    this.capabilities = capabilitiesOf(this.#settings);
    const { brokers, clientId, ssl, sasl, connectTimeoutMs, requestTimeoutMs } = this.#settings;
    this.#client = kafkaJsClient({
      brokers,
      clientId,
      ...(ssl === undefined ? {} : { ssl }),
      ...(sasl === undefined ? {} : { sasl }),
      connectionTimeoutMs: connectTimeoutMs,
      requestTimeoutMs,
    });
  }

  /**
   * kafkajs' own client for the same cluster with the same login, for what anybroker does not offer. Each call makes
   * another, silent one; what is opened with it has nothing to do with this adapter, and is the caller's to close.
   */
  kafkajs(): Kafka {
    const { brokers, clientId, ssl } = this.#settings;
    const sasl: SASLOptions | undefined = this.#settings.sasl;
    return new Kafka({
      brokers: [...brokers],
      clientId,
      logLevel: logLevel.NOTHING,
      ...(ssl === undefined ? {} : { ssl }),
      ...(sasl === undefined ? {} : { sasl }),
    });
  }

  physicalName(address: Address): string {
    return physicalName(address);
  }

  async open(signals: AdapterSignals): Promise<void> {
    if (this.#session !== undefined) throw new MessagingError("invalid", "the Kafka adapter is open already");
    const session = new Session(this.#client, this.#settings, signals);
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

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<KafkaRecord>): Promise<Receiver> {
    return this.#opened((session) => session.receive(from, options, sink));
  }

  depth(of: Address): Promise<Depth> {
    return this.#opened((session) => session.depth(of));
  }

  rewind(of: SubscriptionAddress, to: StartPosition): Promise<void> {
    return this.#opened((session) => session.rewind(of, to));
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
  return new MessagingError("closed", "the Kafka adapter is not open; start the broker first");
}
