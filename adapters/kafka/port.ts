/**
 * What the adapter needs of a Kafka client: requests of the protocol, one call each, with the outcome of every partition
 * told apart. Everything else (batches, sequences, membership, offsets, retries) is written above it, so that another
 * client can be put beneath.
 *
 * No call tries again by itself. Errors that Kafka answers with are data: their protocol name, as in
 * `NOT_LEADER_FOR_PARTITION`. A call rejects with a `MessagingError` if there is no answer: `unreachable` (no connection,
 * or it broke: what was asked may have been done), `timeout` (likewise), `unauthorized` (refused credentials),
 * `unsupported` (the server does not speak this request).
 */
export interface KafkaClient {
  /**
   * A way to the cluster. All connections of a client share its sockets, and none waits for what another asked that the
   * node answers late: fetches are gathered into few for all, what is produced has a socket of its own, and so has each join
   * and sync with a group while it is under way.
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
 * A topic's id as Kafka prints it (22 characters, base64url): a topic that is deleted and made again under its name has
 * another. Empty where the cluster gives it none.
 */
export type TopicId = string;

/** A way to a cluster. Its sockets are opened as needed, and again after they broke. */
export interface KafkaConnection {
  /** Resolves when one broker answers. Rejects with `unreachable` or `unauthorized`. */
  connect(): Promise<void>;
  /**
   * Requests under way reject; nobody else's do. With the last connection of its client every socket ends. With
   * `distrusted`, for one that does not answer, nobody asks anything more on the sockets on which its requests were. A second
   * call does nothing.
   */
  close(options?: { readonly distrusted?: boolean }): Promise<void>;

  /** Asks the cluster anew. Topics that do not exist are in the answer with an error; none is ever created by asking. */
  metadata(topics: readonly string[]): Promise<ClusterMetadata>;
  /** The topics of the cluster that this user may see. */
  allTopics(): Promise<ClusterMetadata>;
  createTopics(topics: readonly TopicSpecification[]): Promise<readonly TopicOutcome[]>;
  /** The values of the configurations asked for, of topics that exist. */
  topicConfigurations(topics: readonly string[], names: readonly string[]): Promise<readonly TopicConfiguration[]>;

  /** An identity for idempotent producing. */
  producerIdentity(): Promise<ProducerIdentity>;
  /** With acks=all. One record batch per partition. */
  produce(node: number, batches: readonly PartitionBatch[], timeoutMs: number): Promise<readonly ProduceOutcome[]>;
  /**
   * In any order. Empty where the node slows the client down, by a quota: then it is asked on when it wants to be. A partition
   * that is read at several offsets at once may be missing; it is to be asked for again.
   */
  fetch(node: number, request: FetchRequest): Promise<readonly FetchedPartition[]>;
  /** The first offset at or after a time, or of either end of the log. */
  listOffsets(node: number, wanted: readonly WantedOffset[]): Promise<readonly ListedOffset[]>;
  /** Removes every record before an offset. */
  deleteRecords(node: number, before: readonly PartitionOffset[]): Promise<readonly PartitionOutcome[]>;

  /** Everything that this user may do to the cluster as a whole. */
  clusterRights(): Promise<ReadonlySet<ClusterRight>>;

  /** The groups that a node coordinates, as far as this user may see them. */
  listGroups(node: number): Promise<{ readonly error: ErrorName; readonly groups: readonly ListedGroup[] }>;
  /** What groups have committed for partitions; offset -1 where nothing. All are coordinated by the node. */
  fetchGroupsOffsets(
    node: number,
    groups: readonly string[],
    partitions: readonly TopicPartition[],
  ): Promise<readonly GroupOffsets[]>;
  /** Up to where a share group has everything handled; offset -1 where it has not begun. */
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
  /** Looks at a group, whatever its protocol. */
  describeGroup(node: number, group: string): Promise<GroupDescription>;
}

/** The brokers, and where the partitions of the topics asked for are led. */
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

export interface PartitionMetadata {
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
  /** What the server says about it. */
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
  /** The topic that it is for, where the server can be told (Kafka 4.1); empty for whichever has the name. */
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

/** A long poll, which may take a second longer than it was to wait. Reads what was committed by transactions, and tells which were aborted. */
export interface FetchRequest {
  readonly maxWaitMs: number;
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly partitions: readonly FetchedFrom[];
}

/** Read from the topic of this id, and no other of its name. */
export interface FetchedFrom extends PartitionOffset {
  readonly topicId: TopicId;
  readonly maxBytes: number;
}

export interface FetchedPartition extends PartitionOutcome {
  readonly highWatermark: number;
  /** Where reading ends while a transaction is open. */
  readonly lastStableOffset: number;
  readonly logStartOffset: number;
  readonly abortedTransactions: readonly { readonly producerId: bigint; readonly firstOffset: number }[];
  /** Encoded record batches, the last possibly cut off. */
  readonly records: Buffer;
}

export interface WantedOffset extends TopicPartition {
  /** Milliseconds since 1970. `latest` is the offset that the next record gets. */
  readonly at: "earliest" | "latest" | number;
}

export interface ListedOffset extends PartitionOutcome {
  /** -1 where no record is as late as the time asked for. */
  readonly offset: number;
}

/** A member of a group in one of its generations. */
export interface Membership {
  readonly group: string;
  readonly memberId: string;
  readonly generation: number;
}

/** Something that may be done to a cluster; there are more, which nobody here asks for. */
export type ClusterRight = "describe";

/** A group, among others. */
export interface ListedGroup {
  readonly group: string;
  /** What its members are, or were: `consumer`, `connect`, `share`, …; empty where it never had any. */
  readonly protocolType: string;
}

/** What a group has committed. */
export interface GroupOffsets {
  readonly group: string;
  readonly error: ErrorName;
  readonly offsets: readonly CommittedOffset[];
}

/** A group and who is in it. */
export interface GroupDescription {
  readonly error: ErrorName;
  /** `Stable`, `Empty`, …; `Dead` if there is no such group. */
  readonly state: string;
  /** `consumer` is the protocol of KIP-848, in which the server assigns partitions; all others are classic. */
  readonly protocol: "classic" | "consumer";
  /** As of {@link ListedGroup}. */
  readonly protocolType: string;
  /** By what partitions are assigned; empty while that is open. */
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
  /** With `MEMBER_ID_REQUIRED` the one to join with. */
  readonly memberId: string;
  /** For the leader: everybody. */
  readonly members: readonly { readonly memberId: string; readonly metadata: Buffer }[];
}

export interface SyncRequest extends Membership {
  /** From the leader: what each member is assigned. */
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
