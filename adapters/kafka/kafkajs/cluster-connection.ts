import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type {
  ClusterMetadata,
  ClusterRight,
  CommittedOffset,
  ErrorName,
  FetchedPartition,
  FetchRequest,
  GroupDescription,
  GroupOffsets,
  JoinOutcome,
  JoinRequest,
  KafkaConnection,
  ListedGroup,
  ListedOffset,
  Membership,
  OffsetCommit,
  PartitionBatch,
  PartitionOffset,
  PartitionOutcome,
  ProduceOutcome,
  ProducerIdentity,
  SyncRequest,
  TopicConfiguration,
  TopicOutcome,
  TopicPartition,
  TopicSpecification,
  WantedOffset,
} from "../port.ts";
import { BrokerSocket, type SocketSettings } from "./broker-socket.ts";
import * as cluster from "./cluster-exchanges.ts";
import { type Address, placeOf } from "./errors.ts";
import type { Exchange, Lane } from "./exchange.ts";
import * as groups from "./group-exchanges.ts";
import * as views from "./group-views.ts";
import * as logs from "./log-exchanges.ts";

/** The state of a group that the classic protocol knows nothing of. */
const NO_CLASSIC_GROUP = "Dead";

/** {@link KafkaConnection} by sockets that are kept per node and lane. */
export class ClusterConnection implements KafkaConnection {
  readonly #settings: SocketSettings;
  readonly #seeds: readonly Address[];
  readonly #nodes = new Map<number, Address>();
  readonly #sockets = new Map<string, { readonly socket: BrokerSocket; readonly lane: Lane }>();
  /** The longest that a member of ours may take to join again, and so the others may have to wait for their assignments. */
  #rebalanceTimeoutMs = 0;
  #isClosed = false;

  constructor(settings: SocketSettings, seeds: readonly Address[]) {
    this.#settings = settings;
    this.#seeds = seeds;
  }

  async connect(): Promise<void> {
    await this.#anySocket();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#sockets.values()].map(({ socket }) => socket.end(closedError())));
  }

  async metadata(topics: readonly string[]): Promise<ClusterMetadata> {
    const answer = await this.#askCluster(topics);
    return { clusterId: answer.clusterId, nodes: answer.brokers.map(({ node }) => node), topics: answer.topics };
  }

  async createTopics(topics: readonly TopicSpecification[]): Promise<readonly TopicOutcome[]> {
    // Without ZooKeeper every broker passes it on to the controller; with it, only the controller takes it.
    const { controller } = await this.#askCluster([]);
    const request = cluster.createTopics(topics, this.#serverWaitMs());
    return controller < 0 ? this.#askAny(request) : this.#ask(controller, request);
  }

  topicConfigurations(topics: readonly string[], names: readonly string[]): Promise<readonly TopicConfiguration[]> {
    return this.#askAny(cluster.topicConfigurations(topics, names));
  }

  producerIdentity(): Promise<ProducerIdentity> {
    return this.#askAny(logs.producerIdentity());
  }

  produce(node: number, batches: readonly PartitionBatch[], timeoutMs: number): Promise<readonly ProduceOutcome[]> {
    return this.#ask(node, logs.produce(batches, timeoutMs));
  }

  fetch(node: number, request: FetchRequest): Promise<readonly FetchedPartition[]> {
    return this.#ask(node, logs.fetch(request));
  }

  listOffsets(node: number, wanted: readonly WantedOffset[]): Promise<readonly ListedOffset[]> {
    return this.#ask(node, logs.listOffsets(wanted));
  }

  deleteRecords(node: number, before: readonly PartitionOffset[]): Promise<readonly PartitionOutcome[]> {
    return this.#ask(node, logs.deleteRecords(before, this.#serverWaitMs()));
  }

  async coordinator(group: string): Promise<{ readonly error: ErrorName; readonly node: number }> {
    const socket = await this.#anySocket();
    const { error, node, host, port } = await socket.ask(groups.coordinator(group));
    if (error === undefined) this.#nodes.set(node, this.#named({ host, port }, await socket.address()));
    return { error, node };
  }

  joinGroup(node: number, request: JoinRequest): Promise<JoinOutcome> {
    this.#rebalanceTimeoutMs = Math.max(this.#rebalanceTimeoutMs, request.rebalanceTimeoutMs);
    return this.#ask(node, groups.joinGroup(request));
  }

  syncGroup(node: number, request: SyncRequest): Promise<{ readonly error: ErrorName; readonly assignment: Buffer }> {
    return this.#ask(node, groups.syncGroup(request, this.#rebalanceTimeoutMs));
  }

  heartbeat(node: number, member: Membership): Promise<ErrorName> {
    return this.#ask(node, groups.heartbeat(member));
  }

  leaveGroup(node: number, member: Pick<Membership, "group" | "memberId">): Promise<ErrorName> {
    return this.#ask(node, groups.leaveGroup(member));
  }

  commitOffsets(node: number, commit: OffsetCommit): Promise<readonly PartitionOutcome[]> {
    return this.#ask(node, groups.commitOffsets(commit));
  }

  fetchOffsets(
    node: number,
    group: string,
    partitions: readonly TopicPartition[],
  ): Promise<{ readonly error: ErrorName; readonly offsets: readonly CommittedOffset[] }> {
    return this.#ask(node, groups.fetchOffsets(group, partitions));
  }

  async describeGroup(node: number, group: string): Promise<GroupDescription> {
    const classic = await this.#ask(node, views.describeClassicGroup(group));
    if (classic.error !== undefined || classic.state !== NO_CLASSIC_GROUP) return classic;
    try {
      const consumers = await this.#ask(node, views.describeConsumerGroup(group));
      return consumers.error === "GROUP_ID_NOT_FOUND" ? classic : consumers;
    } catch (error) {
      // Before Kafka 4.0 there are no others.
      if (isMessagingError(error, "unsupported")) return classic;
      throw error;
    }
  }

  clusterRights(): Promise<ReadonlySet<ClusterRight>> {
    return this.#askAny(cluster.clusterRights());
  }

  listGroups(node: number): Promise<{ readonly error: ErrorName; readonly groups: readonly ListedGroup[] }> {
    return this.#ask(node, views.listGroups());
  }

  fetchGroupsOffsets(
    node: number,
    names: readonly string[],
    partitions: readonly TopicPartition[],
  ): Promise<readonly GroupOffsets[]> {
    return this.#ask(node, views.fetchGroupsOffsets(names, partitions));
  }

  fetchShareGroupOffsets(node: number, group: string, partitions: readonly TopicPartition[]): Promise<GroupOffsets> {
    return this.#ask(node, views.fetchShareGroupOffsets(group, partitions));
  }

  /** What a server may take for what it does not do at once, so that it answers before we give up. */
  #serverWaitMs(): number {
    return Math.ceil(this.#settings.requestTimeoutMs / 2);
  }

  async #ask<Answer>(node: number, exchange: Exchange<Answer>): Promise<Answer> {
    return this.#socketTo(node, exchange.lane ?? "ordinary").ask(exchange);
  }

  async #askAny<Answer>(exchange: Exchange<Answer>): Promise<Answer> {
    const socket = await this.#anySocket();
    return socket.ask(exchange);
  }

  /** Asks anew where the brokers are, beside what is asked. */
  async #askCluster(topics: readonly string[]): Promise<cluster.Cluster> {
    const socket = await this.#anySocket();
    const answer = await socket.ask(cluster.metadata(topics));
    const from = await socket.address();
    // A broker that has just started may not know the others yet.
    if (answer.brokers.length > 0) this.#nodes.clear();
    for (const { node, host, port } of answer.brokers) this.#nodes.set(node, this.#named({ host, port }, from));
    return answer;
  }

  /** An address as a broker gave it, with who gave it unless the user has given it too. */
  #named({ host, port }: Address, from: Address): Address {
    if (this.#seeds.some((seed) => seed.host === host && seed.port === port)) return { host, port };
    // A broker that was found by another's word was named by that one.
    return { host, port, namedBy: from.namedBy ?? placeOf(from) };
  }

  /** An open socket, to whatever broker: one that is open already, or else the first that opens. */
  async #anySocket(): Promise<BrokerSocket> {
    if (this.#isClosed) throw closedError();
    for (const { socket, lane } of this.#sockets.values()) {
      if (lane === "ordinary" && socket.isOpen) return socket;
    }
    const failures: unknown[] = [];
    for (const address of [...this.#nodes.values(), ...this.#seeds]) {
      try {
        const socket = this.#socketAt(address);
        await socket.opened();
        return socket;
      } catch (error) {
        // All brokers know the same users, and are of one release but for a while.
        if (isMessagingError(error, "unauthorized") || isMessagingError(error, "unsupported")) throw error;
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    throw new MessagingError(
      "unreachable",
      `none of ${failures.length} Kafka brokers can be reached; the last: ${String((failures.at(-1) as Error).message)}`,
      { cause: failures.at(-1) },
    );
  }

  #socketAt(address: Address): BrokerSocket {
    return this.#socket(`${address.host}:${address.port}`, "ordinary", async () => address);
  }

  #socketTo(node: number, lane: Lane): BrokerSocket {
    const moved = (): void => void this.#nodes.delete(node);
    return this.#socket(`${node} ${lane}`, lane, () => this.#locate(node), moved);
  }

  async #locate(node: number): Promise<Address> {
    if (!this.#nodes.has(node)) await this.#askCluster([]);
    const address = this.#nodes.get(node);
    if (address !== undefined) return address;
    throw new MessagingError("unreachable", `the Kafka cluster has no broker with the id ${node} at present`);
  }

  #socket(key: string, lane: Lane, locate: () => Promise<Address>, onUnopened?: () => void): BrokerSocket {
    if (this.#isClosed) throw closedError();
    const known = this.#sockets.get(key);
    if (known !== undefined) return known.socket;
    const socket = new BrokerSocket(this.#settings, locate, () => this.#sockets.delete(key));
    this.#sockets.set(key, { socket, lane });
    socket.opened().catch(() => onUnopened?.());
    return socket;
  }
}

function closedError(): MessagingError {
  return new MessagingError("unreachable", "this connection to Kafka has been closed; open another");
}
