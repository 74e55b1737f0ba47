import type { SNSClient } from "@aws-sdk/client-sns";
import type { Message, SQSClient } from "@aws-sdk/client-sqs";
import type {
  Adapter,
  AdapterSignals,
  DeliverySink,
  Depth,
  OutgoingMessage,
  QuarantineLog,
  ReceiveOptions,
  Receiver,
  SendLimits,
  SendReport,
  Topology,
  Watcher,
} from "../../core/adapter.ts";
import { CurrentSession } from "../../core/adapter-support.ts";
import type { Address, QueueAddress, Source, TopicAddress, WorkAddress } from "../../core/address.ts";
import type { MessagingError } from "../../core/errors.ts";
import { CAPABILITIES, MAX_TOPIC_BYTES } from "./capabilities.ts";
import { physicalName } from "./names.ts";
import { resolveOptions, type Settings, type SqsOptions } from "./options.ts";
import { MAX_ENTRIES } from "./publisher.ts";
import { Session } from "./session.ts";

const SEND_LIMITS: SendLimits = Object.freeze({
  maxBatchMessages: MAX_ENTRIES,
  maxBatchBytes: MAX_TOPIC_BYTES / 2,
  maxBatchesInFlight: 16,
});

/** The SDK's clients of one adapter. */
export interface SqsClients {
  readonly sqs: SQSClient;
  readonly sns: SNSClient;
}

/** The SQS and SNS adapter. Created by {@link sqs}. */
export class SqsAdapter implements Adapter<Message> {
  readonly name = "sqs";
  readonly capabilities = CAPABILITIES;
  readonly sendLimits = SEND_LIMITS;
  readonly #settings: Settings;
  readonly #session = new CurrentSession<Session>("SQS");

  constructor(options: SqsOptions) {
    this.#settings = resolveOptions(options);
  }

  /**
   * The SDK's clients while the adapter is open, for what anybroker does not offer. Do not destroy them. They cache the
   * middleware of each command that was sent: middleware added later is not used for that command.
   */
  get clients(): SqsClients | undefined {
    return this.#session.current?.clients;
  }

  /** The URLs of SQS and SNS from options or environment; undefined for others, such as AWS's. */
  get endpoints(): { readonly sqs: string | undefined; readonly sns: string | undefined } {
    return { sqs: this.#settings.endpoint, sns: this.#settings.snsEndpoint };
  }

  physicalName(address: Address): string {
    return physicalName(address, this.#settings.namePrefix);
  }

  open(signals: AdapterSignals): Promise<void> {
    return this.#session.open(() => new Session(this.#settings, signals));
  }

  declare(topology: Topology): Promise<readonly MessagingError[]> {
    return this.#session.use((session) => session.declare(topology));
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    this.#session.send(to, batch, report);
  }

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<Message>): Promise<Receiver> {
    return this.#session.use((session) => session.receive(from, options, sink));
  }

  quarantine(of: WorkAddress): QuarantineLog {
    return {
      append: (record) => this.#session.use((session) => session.quarantine(of).append(record)),
      read: () => this.#session.use((session) => session.quarantine(of).read()),
    };
  }

  identities(of: Address): Promise<readonly unknown[]> {
    return this.#session.use((session) => session.identities(of));
  }

  depth(of: Address): Promise<Depth> {
    return this.#session.use((session) => session.depth(of));
  }

  list(): Promise<readonly (WorkAddress | TopicAddress)[]> {
    return this.#session.use((session) => session.list());
  }

  watch(of: QueueAddress | TopicAddress, watcher: Watcher<Message>): Promise<() => Promise<void>> {
    return this.#session.use((session) => session.watch(of, watcher));
  }

  remove(topology: Topology): Promise<void> {
    return this.#session.use((session) => session.remove(topology));
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
