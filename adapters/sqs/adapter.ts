import type { SNSClient } from "@aws-sdk/client-sns";
import type { Message, SQSClient } from "@aws-sdk/client-sqs";
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
import { CAPABILITIES, MOST_TOPIC_BYTES } from "./capabilities.ts";
import { physicalName } from "./names.ts";
import { resolveOptions, type Settings, type SqsOptions } from "./options.ts";
import { MOST_ENTRIES } from "./sender.ts";
import { Session } from "./session.ts";

const SEND_LIMITS: SendLimits = Object.freeze({
  maxBatchMessages: MOST_ENTRIES,
  maxBatchBytes: MOST_TOPIC_BYTES / 2,
  maxBatchesInFlight: 16,
});

/** The SDK's clients of one adapter. */
export interface SqsClients {
  readonly sqs: SQSClient;
  readonly sns: SNSClient;
}

/** anybroker's side of SQS and SNS. Made by {@link sqs}. */
export class SqsAdapter implements Adapter<Message> {
  readonly name = "sqs";
  readonly capabilities = CAPABILITIES;
  readonly sendLimits = SEND_LIMITS;
  readonly #settings: Settings;
  #session: Session | undefined;

  constructor(options: SqsOptions) {
    this.#settings = resolveOptions(options);
  }

  /** The SDK's clients while the adapter is open, for what anybroker does not offer. Do not destroy them. */
  get clients(): SqsClients | undefined {
    return this.#session?.clients;
  }

  physicalName(address: Address): string {
    return physicalName(address, this.#settings.namePrefix);
  }

  async open(signals: AdapterSignals): Promise<void> {
    if (this.#session !== undefined) throw new MessagingError("invalid", "the SQS adapter is open already");
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

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<Message>): Promise<Receiver> {
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
  return new MessagingError("closed", "the SQS adapter is not open; start the broker first");
}
