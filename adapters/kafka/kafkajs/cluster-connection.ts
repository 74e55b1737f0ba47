import { type ConnectionOptions, createSecureContext } from "node:tls";
import type { SASLOptions } from "kafkajs";
import { checkInteger } from "../../../core/checks.ts";
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
  KafkaClient,
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
import type { BrokerSocket } from "./broker-socket.ts";
import * as cluster from "./cluster-exchanges.ts";
import type { Address } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import * as groups from "./group-exchanges.ts";
import * as logs from "./log-exchanges.ts";
import { closedError, type OnSocket, SocketPool, type SocketRole } from "./socket-pool.ts";

/** The classic protocol's state of an unknown group. */
const NO_CLASSIC_GROUP = "Dead";

/** A pending request. */
interface Open {
  readonly role: SocketRole;
  socket: BrokerSocket | undefined;
  readonly reject: (error: MessagingError) => void;
}

/** A {@link KafkaConnection} over the shared sockets of its client. */
class ClusterConnection implements KafkaConnection {
  readonly #pool: SocketPool;
  readonly #open = new Set<Open>();
  readonly #fetches = new Set<(distrusted?: MessagingError) => void>();
  /** The longest rebalance timeout of our members: how long others may wait for their assignments. */
  #rebalanceTimeoutMs = 0;
  #closing: Promise<void> | undefined;

  constructor(pool: SocketPool) {
    this.#pool = pool;
    pool.acquire();
  }

  async connect(): Promise<void> {
    await this.#track("ordinary", () => this.#pool.connect());
  }

  close({ distrusted = false }: { readonly distrusted?: boolean } = {}): Promise<void> {
    this.#closing ??= this.#close(distrusted);
    return this.#closing;
  }

  async #close(distrusted: boolean): Promise<void> {
    const error = closedError();
    for (const { role, socket, reject } of this.#open) {
      reject(error);
      // A join has its own socket.
      if (role === "membership") void socket?.end(error);
      else if (distrusted) socket?.retire();
    }
    for (const cancel of this.#fetches) cancel(distrusted ? error : undefined);
    await this.#pool.release();
  }

  metadata(topics: readonly string[]): Promise<ClusterMetadata> {
    return this.#metadata(topics);
  }

  allTopics(): Promise<ClusterMetadata> {
    return this.#metadata("all");
  }

  async #metadata(topics: readonly string[] | "all"): Promise<ClusterMetadata> {
    const answer = await this.#askCluster(topics);
    return { clusterId: answer.clusterId, nodes: answer.brokers.map(({ node }) => node), topics: answer.topics };
  }

  async createTopics(topics: readonly TopicSpecification[]): Promise<readonly TopicOutcome[]> {
    // Without ZooKeeper, every broker forwards it; with it, only the controller accepts it.
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
    return this.#ask(node, logs.produce(batches, timeoutMs), "produce");
  }

  async fetch(node: number, request: FetchRequest): Promise<readonly FetchedPartition[]> {
    if (this.#closing !== undefined) throw closedError();
    const { promise, resolve, reject } = Promise.withResolvers<readonly FetchedPartition[]>();
    const { answer, cancel } = this.#pool.fetch(node, request);
    const end = (distrusted?: MessagingError): void => {
      cancel(distrusted);
      reject(closedError());
    };
    this.#fetches.add(end);
    answer.then(resolve, reject).finally(() => this.#fetches.delete(end));
    return promise;
  }

  listOffsets(node: number, wanted: readonly WantedOffset[]): Promise<readonly ListedOffset[]> {
    return this.#ask(node, logs.listOffsets(wanted));
  }

  deleteRecords(node: number, before: readonly PartitionOffset[]): Promise<readonly PartitionOutcome[]> {
    return this.#ask(node, logs.deleteRecords(before, this.#serverWaitMs()));
  }

  coordinator(group: string): Promise<{ readonly error: ErrorName; readonly node: number }> {
    return this.#track("ordinary", (asked) => this.#pool.coordinator(group, asked));
  }

  joinGroup(node: number, request: JoinRequest): Promise<JoinOutcome> {
    this.#rebalanceTimeoutMs = Math.max(this.#rebalanceTimeoutMs, request.rebalanceTimeoutMs);
    return this.#ask(node, groups.joinGroup(request), "membership");
  }

  syncGroup(node: number, request: SyncRequest): Promise<{ readonly error: ErrorName; readonly assignment: Buffer }> {
    return this.#ask(node, groups.syncGroup(request, this.#rebalanceTimeoutMs), "membership");
  }

  heartbeat(node: number, member: Membership): Promise<ErrorName> {
    return this.#ask(node, groups.heartbeat(member));
  }

  leaveGroup(node: number, member: Pick<Membership, "group" | "memberId">): Promise<ErrorName> {
    return this.#ask(node, groups.leaveGroup(member));
  }

  commitOffsets(node: number, commit: OffsetCommit): Promise<readonly PartitionOutcome[]> {
    return this.#ask(node, groups.commitOffsets(commit), "commit");
  }

  fetchOffsets(
    node: number,
    group: string,
    partitions: readonly TopicPartition[],
  ): Promise<{ readonly error: ErrorName; readonly offsets: readonly CommittedOffset[] }> {
    return this.#ask(node, groups.fetchOffsets(group, partitions));
  }

  async describeGroup(node: number, group: string): Promise<GroupDescription> {
    const classic = await this.#ask(node, groups.describeClassicGroup(group));
    if (classic.error !== undefined || classic.state !== NO_CLASSIC_GROUP) return classic;
    try {
      const consumers = await this.#ask(node, groups.describeConsumerGroup(group));
      return consumers.error === "GROUP_ID_NOT_FOUND" ? classic : consumers;
    } catch (error) {
      // Kafka before 4.0 has no other groups.
      if (isMessagingError(error, "unsupported")) return classic;
      throw error;
    }
  }

  clusterRights(): Promise<ReadonlySet<ClusterRight>> {
    return this.#askAny(cluster.clusterRights());
  }

  listGroups(node: number): Promise<{ readonly error: ErrorName; readonly groups: readonly ListedGroup[] }> {
    return this.#ask(node, groups.listGroups());
  }

  fetchGroupsOffsets(
    node: number,
    names: readonly string[],
    partitions: readonly TopicPartition[],
  ): Promise<readonly GroupOffsets[]> {
    return this.#ask(node, groups.fetchGroupsOffsets(names, partitions));
  }

  fetchShareGroupOffsets(node: number, group: string, partitions: readonly TopicPartition[]): Promise<GroupOffsets> {
    return this.#ask(node, groups.fetchShareGroupOffsets(group, partitions));
  }

  /** The server's timeout for slow requests, shorter than ours. */
  #serverWaitMs(): number {
    return Math.ceil(this.#pool.requestTimeoutMs / 2);
  }

  #ask<Answer>(node: number, exchange: Exchange<Answer>, role: SocketRole = "ordinary"): Promise<Answer> {
    return this.#track(role, (asked) => this.#pool.ask(node, role, exchange, asked));
  }

  #askAny<Answer>(exchange: Exchange<Answer>): Promise<Answer> {
    return this.#track("ordinary", (asked) => this.#pool.askAny(exchange, asked));
  }

  /** Refreshes the broker addresses together with the topics asked for. */
  #askCluster(topics: readonly string[] | "all"): Promise<cluster.Cluster> {
    return this.#track("ordinary", (asked) => this.#pool.askCluster(topics, asked));
  }

  /** Settles as the request does, or rejects when this connection closes. */
  async #track<Answer>(role: SocketRole, ask: (asked: OnSocket) => Promise<Answer>): Promise<Answer> {
    if (this.#closing !== undefined) throw closedError();
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const open: Open = { role, socket: undefined, reject };
    this.#open.add(open);
    ask((socket) => {
      open.socket = socket;
    })
      .then(resolve, reject)
      .finally(() => this.#open.delete(open));
    return promise;
  }
}

/** The brokers and how to connect to them. */
export interface KafkaJsConfiguration {
  /** Some of the brokers, as `host:port` or `[::1]:port`, tried in turn; the first to answer names all others. */
  readonly brokers: readonly string[];
  /** Our name in the brokers' logs and quotas. */
  readonly clientId: string;
  /** `true` or options of Node's `tls.connect`, to encrypt. */
  readonly ssl?: boolean | ConnectionOptions;
  /** Credentials as kafkajs takes them. */
  readonly sasl?: SASLOptions;
  /** Milliseconds for opening a socket, with TLS and login. */
  readonly connectionTimeoutMs: number;
  /** Milliseconds for an answer, in addition to the waiting time that was asked of the server. */
  readonly requestTimeoutMs: number;
}

const BROKER = /^(?:\[(?<literal>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9._-]+)):(?<port>\d{1,5})$/;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Creates a client over kafkajs' connections. Throws `invalid`. Opens nothing yet. */
export function kafkaJsClient(configuration: KafkaJsConfiguration): KafkaClient {
  const { brokers, clientId, ssl, sasl, connectionTimeoutMs, requestTimeoutMs } = configuration;
  if (!Array.isArray(brokers) || brokers.length === 0) throw invalid("takes one broker or more");
  const seeds = brokers.map(parseBroker);
  if (typeof clientId !== "string" || clientId.length > 1_000) throw invalid("takes a short text as clientId");
  checkInteger("Kafka { connectionTimeoutMs }", connectionTimeoutMs, 1, MAX_TIMEOUT_MS);
  checkInteger("Kafka { requestTimeoutMs }", requestTimeoutMs, 1, MAX_TIMEOUT_MS);
  const settings = { clientId, tls: secured(ssl), sasl, connectionTimeoutMs, requestTimeoutMs };
  const pool = new SocketPool(settings, seeds);
  return { connection: () => new ClusterConnection(pool) };
}

/** The error does not quote the input, which may hold a password. */
function parseBroker(broker: unknown, index: number): Address {
  const { literal, name, port } = (typeof broker === "string" ? BROKER.exec(broker)?.groups : undefined) ?? {};
  const host = literal ?? name;
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw invalid(`takes each broker as host:port or [::1]:port, which number ${index + 1} is not`);
  }
  return { host, port: Number(port) };
}

/** Reads keys and certificates once, where errors can be reported. */
function secured(ssl: boolean | ConnectionOptions | undefined): ConnectionOptions | undefined {
  if (ssl === undefined || ssl === false) return undefined;
  const options = ssl === true ? {} : ssl;
  try {
    return { ...options, secureContext: options.secureContext ?? createSecureContext(options) };
  } catch (error) {
    // Without a cause: Node quotes its input.
    const { code = "unknown" } = error as { readonly code?: string };
    throw invalid(
      `cannot use the TLS key, certificate or passphrase given (${code}); check that they are PEM and match`,
    );
  }
}

function invalid(message: string): MessagingError {
  return new MessagingError("invalid", `Kafka ${message}`);
}
