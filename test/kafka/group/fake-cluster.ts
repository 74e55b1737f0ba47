import type {
  ErrorName,
  GroupDescription,
  JoinOutcome,
  JoinRequest,
  KafkaClient,
  KafkaConnection,
  Membership,
  OffsetCommit,
  PartitionOutcome,
  SyncRequest,
  TopicMetadata,
  TopicPartition,
} from "../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { Prng } from "../../simulation/prng.ts";
import type { VirtualTime } from "../../simulation/virtual-time.ts";
import { CLUSTER_ID, topicId } from "../topic-ids.ts";
import type { FakeCoordinator, FetchedOffsets, SyncOutcome } from "./fake-coordinator.ts";

/** The way between a process and the cluster. */
export interface SocketGroup {
  /** `silent`: bytes wait, in both directions, and nobody is told. `refused`: no connection can be made. */
  weather: "good" | "silent" | "refused";
  /** How long a request, or its answer, takes on the way. */
  readonly latencyMs: () => number;
  /** Whether what was on its way when a connection broke arrives all the same. */
  readonly arrives: () => boolean;
  /** Runs what the process does with an answer, when it can. */
  readonly process: (run: () => void) => void;
  readonly connections: Set<FakeConnection>;
  /** What waits, of each connection in order. */
  readonly held: Map<FakeConnection, (() => void)[]>;
}

/** Makes a line that is good. */
export function goodLine(random: Prng, process: (run: () => void) => void = (run) => run()): SocketGroup {
  return {
    weather: "good",
    latencyMs: () => random.between(1, 15),
    arrives: () => random.chance(0.5),
    process,
    connections: new Set(),
    held: new Map(),
  };
}

/** What was held back in silence goes on. Of two connections a server may read the younger first. */
export function restore(line: SocketGroup): void {
  line.weather = "good";
  const held = [...line.held.values()].reverse();
  line.held.clear();
  for (const run of held.flat()) run();
}

/** Breaks every connection of a line. */
export function cut(line: SocketGroup): void {
  for (const connection of [...line.connections]) connection.break("the connection broke");
}

/** Every connection of a line is open on this side only from now on, without a sign of it; new ones are good. */
export function deaden(line: SocketGroup): void {
  for (const connection of line.connections) connection.isDead = true;
}

/** What is done to answers on their way. */
export interface Lies {
  join?: ((answer: JoinOutcome) => JoinOutcome) | undefined;
  sync?: ((answer: SyncOutcome) => SyncOutcome) | undefined;
}

/** Brokers with one group, one of them its coordinator. */
export class FakeCluster {
  readonly time: VirtualTime;
  readonly coordinator: FakeCoordinator;
  /** Partitions by topic. */
  readonly topics: Map<string, number>;
  readonly lines = new Set<SocketGroup>();
  /** Errors to answer with instead, by the name of a request. */
  readonly errors = new Map<string, string>();
  readonly lies: Lies = {};
  node = 1;
  isUp = true;
  /** Whether the other node, the coordinator of before, can be connected to. */
  isOtherUp = true;
  /** Whether no topic is known, as by a server that has just started. */
  isForgetful = false;
  #frozen: (() => void)[] | undefined;

  constructor(time: VirtualTime, coordinator: FakeCoordinator, topics: Readonly<Record<string, number>>) {
    this.time = time;
    this.coordinator = coordinator;
    this.topics = new Map(Object.entries(topics));
  }

  client(line: SocketGroup): KafkaClient {
    this.lines.add(line);
    return { connection: () => new FakeConnection(this, line) as unknown as KafkaConnection };
  }

  /** The coordinator's broker dies; the group is at another one after a while, and is read there for a while. */
  failOver(downMs: number, loadMs: number): void {
    this.isUp = false;
    this.coordinator.fail();
    for (const line of this.lines) cut(line);
    this.time.schedule(() => {
      this.node = 3 - this.node;
      this.isUp = true;
    }, downMs);
    this.time.schedule(() => this.coordinator.load(), downMs + loadMs);
  }

  /** The coordinator's broker stands still: it takes what comes and answers nothing. */
  freeze(ms: number): void {
    if (this.#frozen !== undefined) return;
    this.#frozen = [];
    this.coordinator.clock.pause();
    this.time.schedule(() => {
      const frozen = this.#frozen ?? [];
      this.#frozen = undefined;
      this.coordinator.clock.resume();
      // Of two connections it may read the younger first.
      for (const thaw of frozen.reverse()) thaw();
    }, ms);
  }

  /** Resolves when the coordinator's broker does not stand still. */
  thawed(): Promise<void> | undefined {
    const frozen = this.#frozen;
    return frozen && new Promise((resolve) => void frozen.push(resolve));
  }

  metadata(names: readonly string[]): readonly TopicMetadata[] {
    return names.map((topic) => {
      const count = this.isForgetful ? 0 : (this.topics.get(topic) ?? 0);
      const partitions = Array.from({ length: count }, (_, partition) => ({
        partition,
        error: undefined,
        leader: 1,
        replicas: 1,
      }));
      return { topic, id: topicId(topic), error: count === 0 ? "UNKNOWN_TOPIC_OR_PARTITION" : undefined, partitions };
    });
  }
}

type Answer = { readonly error: ErrorName };

/** Answers what a member of a group asks, one request after the other. */
class FakeConnection {
  readonly #cluster: FakeCluster;
  readonly #line: SocketGroup;
  readonly #waiting = new Set<(error: MessagingError) => void>();
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  isDead = false;

  constructor(cluster: FakeCluster, line: SocketGroup) {
    this.#cluster = cluster;
    this.#line = line;
    line.connections.add(this);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.break("this connection was closed");
    this.#line.connections.delete(this);
  }

  /** Whatever is under way rejects. It is good for further requests. */
  break(why: string): void {
    this.#queue = Promise.resolve();
    this.isDead = false;
    for (const reject of [...this.#waiting]) reject(new MessagingError("unreachable", why));
  }

  metadata(names: readonly string[]): Promise<unknown> {
    return this.#ask(async () => ({ clusterId: CLUSTER_ID, nodes: [1, 2], topics: this.#cluster.metadata(names) }));
  }

  coordinator(): Promise<unknown> {
    return this.#ask(async () => ({ error: undefined, node: this.#cluster.node }));
  }

  joinGroup(node: number, request: JoinRequest): Promise<JoinOutcome> {
    const refusal = { generation: -1, leader: "", memberId: request.memberId, members: [] };
    const answer = async (group: FakeCoordinator): Promise<JoinOutcome> => {
      const joined = await group.joinGroup(request);
      return this.#cluster.lies.join?.(joined) ?? joined;
    };
    return this.#askCoordinator("joinGroup", node, refusal, answer);
  }

  syncGroup(node: number, request: SyncRequest): Promise<SyncOutcome> {
    const refusal = { assignment: Buffer.alloc(0) };
    const answer = async (group: FakeCoordinator): Promise<SyncOutcome> => {
      const synced = await group.syncGroup(request);
      return this.#cluster.lies.sync?.(synced) ?? synced;
    };
    return this.#askCoordinator("syncGroup", node, refusal, answer);
  }

  async heartbeat(node: number, member: Membership): Promise<ErrorName> {
    const serve = async (group: FakeCoordinator): Promise<Answer> => ({ error: group.heartbeat(member) });
    return (await this.#askCoordinator("heartbeat", node, {}, serve)).error;
  }

  async leaveGroup(node: number, { memberId }: Pick<Membership, "memberId">): Promise<ErrorName> {
    const serve = async (group: FakeCoordinator): Promise<Answer> => ({ error: group.leaveGroup(memberId) });
    return (await this.#askCoordinator("leaveGroup", node, {}, serve)).error;
  }

  describeGroup(node: number): Promise<GroupDescription> {
    const nobody = { state: "", protocol: "classic", protocolType: "", assignor: "", members: 0, clients: [] } as const;
    return this.#askCoordinator("describeGroup", node, nobody, async (group) => group.describe());
  }

  async commitOffsets(node: number, commit: OffsetCommit): Promise<readonly PartitionOutcome[]> {
    const refusal: { readonly outcomes?: readonly PartitionOutcome[] } = {};
    const { error, outcomes } = await this.#askCoordinator<Answer & typeof refusal>(
      "commitOffsets",
      node,
      refusal,
      async (group) => ({ error: undefined, outcomes: group.commitOffsets(commit) }),
    );
    return outcomes ?? commit.offsets.map(({ topic, partition }) => ({ topic, partition, error }));
  }

  fetchOffsets(node: number, _group: string, partitions: readonly TopicPartition[]): Promise<FetchedOffsets> {
    const serve = async (group: FakeCoordinator) => group.fetchOffsets(partitions);
    return this.#askCoordinator("fetchOffsets", node, { offsets: [] }, serve);
  }

  #askCoordinator<Result extends Answer>(
    name: string,
    node: number,
    refusal: Omit<Result, "error">,
    serve: (group: FakeCoordinator) => Promise<Result>,
  ): Promise<Result> {
    return this.#ask(async () => {
      if (node !== this.#cluster.node && !this.#cluster.isOtherUp)
        throw new MessagingError("unreachable", "it is down");
      if (node === this.#cluster.node) await this.#cluster.thawed();
      const moved = node === this.#cluster.node ? undefined : "NOT_COORDINATOR_FOR_GROUP";
      const error = this.#cluster.errors.get(name) ?? moved;
      return error === undefined ? await serve(this.#cluster.coordinator) : ({ ...refusal, error } as Result);
    });
  }

  /** There, when it is its turn, and back. */
  #ask<Result>(serve: () => Promise<Result>): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const line = this.#line;
    const fail = (error: MessagingError): void => {
      if (this.#waiting.delete(fail)) line.process(() => reject(error));
    };
    this.#waiting.add(fail);
    if (this.#isClosed) fail(new MessagingError("unreachable", "this connection is closed"));
    const turn = this.#queue;
    const served = new Promise<void>((done) => {
      this.#travel(async () => {
        if (!this.#waiting.has(fail) && !line.arrives()) return;
        await turn;
        if (line.weather === "refused" || !this.#cluster.isUp) {
          fail(new MessagingError("unreachable", "no connection can be made"));
          return;
        }
        const answer = await serve().then(
          (result) => () => resolve(result),
          (error: unknown) => () => reject(error),
        );
        done();
        this.#travel(() => {
          if (this.#waiting.delete(fail)) line.process(answer);
        });
      });
    });
    // A join holds up what comes after it; once the connection broke it holds up nothing.
    this.#queue = turn.then(() => Promise.race([served, promise.catch(() => undefined)]));
    return promise;
  }

  #travel(arrive: () => void): void {
    this.#cluster.time.schedule(() => {
      if (this.isDead) return;
      const { weather, held } = this.#line;
      if (weather === "silent") held.set(this, [...(held.get(this) ?? []), arrive]);
      else arrive();
    }, this.#line.latencyMs());
  }
}
