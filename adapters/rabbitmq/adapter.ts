import type { ChannelModel, ConsumeMessage } from "amqplib";
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
import { addressesAmong, CurrentSession } from "../../core/adapter-support.ts";
import type { Address, QueueAddress, Source, TopicAddress, WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { CAPABILITIES } from "./capabilities.ts";
import { readQueues } from "./management.ts";
import { physicalName, queueName } from "./names.ts";
import { LOOPBACK, type RabbitMQOptions, resolveOptions, type Settings } from "./options.ts";
import type { PolicyFindings } from "./policies.ts";
import { Session } from "./session.ts";
import type { Established } from "./topology.ts";

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
  readonly #session = new CurrentSession<Session>("RabbitMQ");

  constructor(options: RabbitMQOptions) {
    this.#settings = resolveOptions(options);
  }

  /**
   * amqplib's own connections while they stand, for what anybroker does not offer: make a channel of your own on them.
   * After a loss they are others, so ask again instead of keeping one. Closing one is mended like any loss.
   */
  get connections(): RabbitMQConnections {
    return this.#session.current?.connections ?? { publishing: undefined, consuming: undefined };
  }

  physicalName(address: Address): string {
    return physicalName(address);
  }

  open(signals: AdapterSignals): Promise<void> {
    return this.#session.open(() => new Session(this.#settings, signals));
  }

  declare(topology: Topology): Promise<readonly MessagingError[]> {
    return this.#session.use((session) => session.declare(topology));
  }

  /**
   * Looks what stands, as `declare` does with `"verify"`, and tells beside the problems what could not be compared: bindings,
   * which AMQP does not tell, and the properties of what the user may not configure; with `managementUrl` all is compared.
   */
  verify(topology: Topology): Promise<Established> {
    return this.#session.use((session) => session.verify(topology));
  }

  /**
   * What the server's policies do to a topology: what loses messages or breaks what is promised (which `declare` finds,
   * too), and what changes how it works. Undefined without `managementUrl`, since AMQP does not tell policies. Rejects if
   * the management API does not answer.
   */
  policies(topology: Topology): Promise<PolicyFindings | undefined> {
    return this.#session.use((session) => session.policies(topology));
  }

  /**
   * How many delayed messages the server has taken off one wait queue and not put on the next. Undefined without
   * `managementUrl`. Rejects if the management API does not answer.
   */
  delaysUnderWay(): Promise<number | undefined> {
    return this.#session.use((session) => session.delaysUnderWay());
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    this.#session.send(to, batch, report);
  }

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<ConsumeMessage>): Promise<Receiver> {
    return this.#session.use((session) => session.receive(from, options, sink));
  }

  quarantine(of: WorkAddress): QuarantineLog {
    return {
      append: (record) => this.#session.use((session) => session.quarantine(of).append(record)),
      read: () => this.#session.use((session) => session.quarantine(of).read()),
    };
  }

  /** Host, port and virtual host: what a cluster calls itself, others may be called too. */
  async identities(): Promise<readonly unknown[]> {
    const { hosts, vhost } = this.#settings;
    return hosts.map(
      ({ host, port }) => `rabbitmq ${LOOPBACK.test(host) ? "localhost" : host.toLowerCase()} ${port} ${vhost}`,
    );
  }

  depth(of: Address): Promise<Depth> {
    return this.#session.use((session) => session.depth(of));
  }

  /** Rejects with `unsupported` without `managementUrl`, since AMQP lists no queues. */
  async list(): Promise<readonly (WorkAddress | TopicAddress)[]> {
    return addressesAmong((await readQueues(this.#settings)).keys());
  }

  /**
   * How many messages consumers hold of the queue at an address, as the management API knew some seconds ago. Rejects with
   * `unsupported` without `managementUrl`, and with `not-found` if it knows no such queue.
   */
  async unacknowledged(of: Source): Promise<number> {
    const found = (await readQueues(this.#settings)).get(queueName(of));
    if (found !== undefined) return found;
    throw new MessagingError("not-found", `RabbitMQ's management API knows no queue "${queueName(of)}"`);
  }

  watch(of: QueueAddress | TopicAddress, watcher: Watcher<ConsumeMessage>): Promise<() => Promise<void>> {
    return this.#session.use((session) => session.watch(of, watcher));
  }

  remove(topology: Topology): Promise<void> {
    return this.#session.use((session) => session.remove(topology));
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
