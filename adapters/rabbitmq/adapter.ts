import type { ConsumeMessage } from "amqplib";
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
import { type RabbitMQConnections, Session } from "./session.ts";
import type { Established } from "./verification.ts";

const SEND_LIMITS: SendLimits = Object.freeze({
  maxBatchMessages: 256,
  maxBatchBytes: 4 * 1024 * 1024,
  maxBatchesInFlight: 1024,
});

/** The RabbitMQ adapter, over AMQP 0-9-1. Created by {@link rabbitmq}. */
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
   * amqplib's own connections, for what anybroker does not offer: open your own channel on one. Read this again after a
   * loss, because the connections change. If you close one, the adapter reconnects.
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
   * Verifies as `declare` does with `"verify"`. Also returns what it could not compare: bindings, which AMQP does not
   * show, and the properties of resources that the user may not configure. With `managementUrl` it compares everything.
   */
  verify(topology: Topology): Promise<Established> {
    return this.#session.use((session) => session.verify(topology));
  }

  /**
   * Returns what the server's policies do to a topology: problems (lost messages, broken guarantees), which `declare`
   * finds too, and changes of how it works. Undefined without `managementUrl`: AMQP does not show policies. Rejects if
   * the management API does not answer.
   */
  policies(topology: Topology): Promise<PolicyFindings | undefined> {
    return this.#session.use((session) => session.policies(topology));
  }

  /**
   * Returns how many delayed messages the server has taken off one wait queue and not yet put on the next. Undefined
   * without `managementUrl`. Rejects if the management API does not answer.
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

  /** Host, port and virtual host. The cluster's own name is not used: other clusters may have the same. */
  async identities(): Promise<readonly unknown[]> {
    const { hosts, vhost } = this.#settings;
    return hosts.map(
      ({ host, port }) => `rabbitmq ${LOOPBACK.test(host) ? "localhost" : host.toLowerCase()} ${port} ${vhost}`,
    );
  }

  depth(of: Address): Promise<Depth> {
    return this.#session.use((session) => session.depth(of));
  }

  /** Rejects with `unsupported` without `managementUrl`, because AMQP lists no queues. */
  async list(): Promise<readonly (WorkAddress | TopicAddress)[]> {
    return addressesAmong((await readQueues(this.#settings)).keys());
  }

  /**
   * Returns how many unacknowledged messages the queue of an address has. The management API's number is some seconds
   * old. Rejects with `unsupported` without `managementUrl`, and with `not-found` if there is no such queue.
   */
  async unacknowledged(of: Source): Promise<number> {
    const found = (await readQueues(this.#settings)).get(queueName(of));
    if (found !== undefined) return found;
    throw new MessagingError("not-found", `RabbitMQ's management API has no queue "${queueName(of)}"`);
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
