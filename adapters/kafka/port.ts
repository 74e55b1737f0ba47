/**
 * What the adapter needs of a Kafka client: single protocol requests with one outcome per partition. Batches,
 * sequences, membership, offsets and retries are built on it, so another client can implement it.
 *
 * No call retries. Errors in Kafka's answers are data, by their protocol names such as `NOT_LEADER_FOR_PARTITION`.
 * Without an answer a call rejects with a `MessagingError`: `unreachable` or `timeout` (the request may have been
 * carried out), `unauthorized` (refused credentials) or `unsupported` (the server does not know the request).
 */
export interface KafkaClient {
  /**
   * Opens a connection. All connections of a client share its sockets, and a late answer delays no other request.
   * Fetches are united for all; produce requests, and each join and sync of a group, have their own socket.
   */
  connection(): KafkaConnection;
}

/** The name of a protocol error, as in `NOT_LEADER_FOR_PARTITION`; undefined where it went well. */
export type ErrorName = string | undefined;

/** A partition of a topic. */
export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

/**
 * A topic's id as Kafka prints it (22 characters, base64url): a topic that is deleted and recreated under its name has
 * another. Empty where the cluster gives it none.
 */
export type TopicId = string;

/** A connection to a cluster. Sockets are opened as needed, also after they broke. */
export interface KafkaConnection {
  /** Resolves when one broker answers. Rejects with `unreachable` or `unauthorized`. */
  connect(): Promise<void>;
  /**
   * Rejects the requests under way of this connection only. The last connection of a client closes all sockets. With
   * `distrusted`, the sockets of its requests are not used again. A second call does nothing.
   */
  close(options?: { readonly distrusted?: boolean }): Promise<void>;

  /** Asks the cluster, without a cache. Missing topics are in the answer with an error; they are never created. */
  metadata(topics: readonly string[]): Promise<ClusterMetadata>;
  /** The topics of the cluster that this user may see. */
  allTopics(): Promise<ClusterMetadata>;
  createTopics(topics: readonly TopicSpecification[]): Promise<readonly TopicOutcome[]>;
  /** The values of these configurations, for existing topics. */
  topicConfigurations(topics: readonly string[], names: readonly string[]): Promise<readonly TopicConfiguration[]>;

  /** An identity for idempotent producing. */
  producerIdentity(): Promise<ProducerIdentity>;
  /** With acks=all. One record batch per partition. */
  produce(node: number, batches: readonly PartitionBatch[], timeoutMs: number): Promise<readonly ProduceOutcome[]>;
  /**
   * In any order. Empty if a quota delays the client: fetch again. A partition that is read at several offsets at once
   * may be missing; fetch it again.
   */
  fetch(node: number, request: FetchRequest): Promise<readonly FetchedPartition[]>;
  /** The first offset at or after a time, or one end of the log. */
  listOffsets(node: number, wanted: readonly WantedOffset[]): Promise<readonly ListedOffset[]>;
  /** Removes every record before an offset. */
  deleteRecords(node: number, before: readonly PartitionOffset[]): Promise<readonly PartitionOutcome[]>;

  /** What this user may do to the cluster as a whole. */
  clusterRights(): Promise<ReadonlySet<ClusterRight>>;

  /** The groups that a node coordinates, as far as this user may see them. */
  listGroups(node: number): Promise<{ readonly error: ErrorName; readonly groups: readonly ListedGroup[] }>;
  /** What groups have committed for partitions; offset -1 where nothing. All are coordinated by the node. */
  fetchGroupsOffsets(
    node: number,
    groups: readonly string[],
    partitions: readonly TopicPartition[],
  ): Promise<readonly GroupOffsets[]>;
  /** The offset up to which a share group has handled everything; -1 before it has begun. */
  fetchShareGroupOffsets(node: number, group: string, partitions: readonly TopicPartition[]): Promise<GroupOffsets>;

  /** The node that coordinates a group. */
  coordinator(group: string): Promise<{ readonly error: ErrorName; readonly node: number }>;
  joinGroup(node: number, request: JoinRequest): Promise<JoinOutcome>;
  syncGroup(node: number, request: SyncRequest): Promise<{ readonly error: ErrorName; readonly assignment: Buffer }>;
  heartbeat(node: number, member: Membership): Promise<ErrorName>;
  leaveGroup(node: number, member: Pick<Membership, "group" | "memberId">): Promise<ErrorName>;
  commitOffsets(node: number, commit: OffsetCommit): Promise<readonly PartitionOutcome[]>;
  fetchOffsets(
    node: number,
    group: string,
    partitions: readonly TopicPartition[],
  ): Promise<{ readonly error: ErrorName; readonly offsets: readonly CommittedOffset[] }>;
  /** Describes a group of any protocol. */
  describeGroup(node: number, group: string): Promise<GroupDescription>;
}

/** The brokers, and the leaders of the partitions of these topics. */
export interface ClusterMetadata {
  /** Empty where it has none. */
  readonly clusterId: string;
  /** The ids of the brokers. */
  readonly nodes: readonly number[];
  readonly topics: readonly TopicMetadata[];
}

export interface TopicMetadata {
  readonly topic: string;
  /** Empty with an error. */
  readonly id: TopicId;
  readonly error: ErrorName;
  readonly partitions: readonly PartitionMetadata[];
}

interface PartitionMetadata {
  readonly partition: number;
  readonly error: ErrorName;
  /** -1 while there is none. */
  readonly leader: number;
  readonly replicas: number;
}

export interface TopicSpecification {
  readonly topic: string;
  readonly partitions: number;
  readonly replicationFactor: number;
  readonly configuration: Readonly<Record<string, string>>;
}

export interface TopicOutcome {
  readonly topic: string;
  readonly error: ErrorName;
  /** The server's explanation. */
  readonly message: string | undefined;
}

export interface TopicConfiguration {
  readonly topic: string;
  readonly error: ErrorName;
  readonly values: ReadonlyMap<string, string>;
}

export interface ProducerIdentity {
  readonly error: ErrorName;
  readonly producerId: bigint;
  readonly epoch: number;
}

/** An encoded record batch for a partition. */
export interface PartitionBatch extends TopicPartition {
  /** The topic's id, for servers that support it (Kafka 4.1); empty to address it by name. */
  readonly topicId: TopicId;
  readonly batch: Uint8Array;
}

export interface PartitionOutcome extends TopicPartition {
  readonly error: ErrorName;
}

export interface ProduceOutcome extends PartitionOutcome {
  readonly baseOffset: number;
}

export interface PartitionOffset extends TopicPartition {
  readonly offset: number;
}

/**
 * A long poll, which may take a second longer than `maxWaitMs`. Reads committed records, and names aborted
 * transactions.
 */
export interface FetchRequest {
  readonly maxWaitMs: number;
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly partitions: readonly FetchedFrom[];
}

/** Reads only from the topic with this id. */
export interface FetchedFrom extends PartitionOffset {
  readonly topicId: TopicId;
  readonly maxBytes: number;
}

export interface FetchedPartition extends PartitionOutcome {
  readonly highWatermark: number;
  /** The end of what can be read while a transaction is open. */
  readonly lastStableOffset: number;
  readonly logStartOffset: number;
  readonly abortedTransactions: readonly { readonly producerId: bigint; readonly firstOffset: number }[];
  /** Encoded record batches, the last possibly cut off. */
  readonly records: Buffer;
}

export interface WantedOffset extends TopicPartition {
  /** Milliseconds since 1970, or an end of the log. `latest` is the offset of the next record. */
  readonly at: "earliest" | "latest" | number;
}

export interface ListedOffset extends PartitionOutcome {
  /** -1 if no record is as late as that time. */
  readonly offset: number;
}

/** A member of a group in one of its generations. */
export interface Membership {
  readonly group: string;
  readonly memberId: string;
  readonly generation: number;
}

/** A right on the cluster; only the ones used here. */
export type ClusterRight = "describe";

/** A group in a list of groups. */
export interface ListedGroup {
  readonly group: string;
  /** The kind of its members: `consumer`, `connect`, `share`, …; empty if it never had any. */
  readonly protocolType: string;
}

/** What a group has committed. */
export interface GroupOffsets {
  readonly group: string;
  readonly error: ErrorName;
  readonly offsets: readonly CommittedOffset[];
}

/** A group and its members. */
export interface GroupDescription {
  readonly error: ErrorName;
  /** `Stable`, `Empty`, …; `Dead` if there is no such group. */
  readonly state: string;
  /** `consumer` is the protocol of KIP-848, in which the server assigns partitions; all others are classic. */
  readonly protocol: "classic" | "consumer";
  /** As of {@link ListedGroup}. */
  readonly protocolType: string;
  /** How partitions are assigned; empty while that is open. */
  readonly assignor: string;
  /** How many members it has. */
  readonly members: number;
  /** The client ids of the members, each once. */
  readonly clients: readonly string[];
}

export interface JoinRequest {
  readonly group: string;
  /** Empty for a new member. */
  readonly memberId: string;
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  readonly protocol: string;
  readonly metadata: Buffer;
}

export interface JoinOutcome {
  readonly error: ErrorName;
  readonly generation: number;
  readonly leader: string;
  /** With `MEMBER_ID_REQUIRED`, the id to join with. */
  readonly memberId: string;
  /** For the leader: all members. */
  readonly members: readonly { readonly memberId: string; readonly metadata: Buffer }[];
}

export interface SyncRequest extends Membership {
  /** From the leader: the assignment of each member. */
  readonly assignments: readonly { readonly memberId: string; readonly assignment: Buffer }[];
}

/** Offsets with metadata. A generation of -1 and an empty member id commit to a group without members. */
export interface OffsetCommit extends Membership {
  readonly offsets: readonly (PartitionOffset & { readonly metadata: string })[];
}

export interface CommittedOffset extends PartitionOutcome {
  /** -1 where none was committed. */
  readonly offset: number;
  readonly metadata: string;
}
