import type { ConsumerOptions, RecordSink } from "../../../adapters/kafka/consuming/assigned-partition.ts";
import { openConsumer } from "../../../adapters/kafka/consuming/consumer.ts";
import type { RecordDecoder } from "../../../adapters/kafka/consuming/fetch-failures.ts";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { CommitOutcome, GroupMember, RebalanceListener } from "../../../adapters/kafka/group/coordinator.ts";
import { partitionKey } from "../../../adapters/kafka/names.ts";
import type {
  CommittedOffset,
  FetchedPartition,
  FetchRequest,
  KafkaClient,
  KafkaConnection,
  ListedOffset,
  TopicPartition,
} from "../../../adapters/kafka/port.ts";
import type { DecodedRecords } from "../../../adapters/kafka/records/contract.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { SimulatedCluster } from "./simulation/simulated-cluster.ts";
import { SimulatedLog } from "./simulation/simulated-log.ts";

export type Scripted = Awaited<ReturnType<typeof openScripted>>;

/** What is done to a fetch before it is answered; `undefined` is never answered. */
type Tamper = (
  request: FetchRequest,
  answer: readonly FetchedPartition[],
) => readonly FetchedPartition[] | Promise<readonly FetchedPartition[]> | undefined;

/** How a piece is read, after it was. */
export type Misread = (decoded: DecodedRecords, at: TopicPartition & { readonly from: number }) => DecodedRecords;

export interface Script {
  readonly partitions: number;
  readonly records: number;
  readonly committed?: ReadonlyMap<number, Pick<CommittedOffset, "offset" | "metadata">>;
  readonly options?: Partial<ConsumerOptions>;
  readonly maxBufferBytes?: number;
  /** How pieces are read, where they are not of the simulated logs. */
  readonly decode?: RecordDecoder;
}

/** A consumer with all partitions of a topic to itself, in virtual time, with a broker that does as it is told. */
export async function openScripted({ partitions, records, committed, options = {}, maxBufferBytes, decode }: Script) {
  const time = new VirtualTime();
  const prng = new Prng("scripted");
  const cluster = new SimulatedCluster(time, prng);
  const logs = Array.from({ length: partitions }, (_, partition) => new SimulatedLog("orders", partition, 1));
  for (const log of logs) {
    cluster.logs.set(partitionKey(log), log);
    for (let count = 0; count < records; count++) log.append(plain);
  }
  const script: {
    tamper: Tamper;
    misread: Misread;
    places: (listed: readonly ListedOffset[]) => readonly ListedOffset[];
    commit: (key: string) => CommitOutcome;
  } = {
    places: (listed) => listed,
    tamper: (_, answer) => answer,
    misread: (decoded) => decoded,
    commit: () => "committed",
  };
  const stored = new Map<string, Pick<CommittedOffset, "offset" | "metadata">>();
  for (const [partition, standing] of committed ?? []) stored.set(`orders/${partition}`, standing);
  const asked: FetchRequest[] = [];
  const counts = { connections: 0, commits: 0, refreshed: 0, flowing: 0, unsettled: 0 };
  const connect = (connection: KafkaConnection): KafkaConnection => ({
    ...connection,
    listOffsets: async (node, wanted) => script.places(await connection.listOffsets(node, wanted)),
    fetch: async (node, request) => {
      asked.push(request);
      const answer = await script.tamper(request, await connection.fetch(node, request));
      return answer ?? (await new Promise(() => {}));
    },
  });
  const client: KafkaClient = {
    connection: () => {
      counts.connections++;
      return connect(cluster.client(() => false).connection());
    },
  };
  let owner: RebalanceListener | undefined;
  const member: GroupMember = {
    complete: Promise.resolve(),
    commit: async (offsets) => {
      counts.commits++;
      await new Promise<void>((resolve) => time.schedule(resolve, 1));
      return offsets.map((commit) => {
        const outcome = script.commit(partitionKey(commit));
        if (outcome === "committed") stored.set(partitionKey(commit), commit);
        return outcome;
      });
    },
    committed: async (wanted) => {
      await new Promise<void>((resolve) => time.schedule(resolve, 1));
      return wanted.map((at) => ({
        ...at,
        error: undefined,
        offset: -1,
        metadata: "",
        ...stored.get(partitionKey(at)),
      }));
    },
    refresh: () => void counts.refreshed++,
    close: async () => {},
  };
  const held: DeliveredRecord[] = [];
  const lost: DeliveredRecord[] = [];
  const stalls: MessagingError[] = [];
  const notices: MessagingError[] = [];
  const sink: RecordSink = {
    deliver: (batch) => void held.push(...batch),
    revoke: () => {},
    lost: (batch) => void lost.push(...batch),
    stalled: (cause) => void stalls.push(cause),
    flowing: () => void counts.flowing++,
    notice: (error) => void notices.push(error),
  };
  const opening = openConsumer(
    {
      client,
      clock: new ProcessClock(time),
      random: prng,
      drainMs: 1_000,
      maxBufferBytes,
      decode: decode ?? ((bytes, at) => script.misread(cluster.pieces.decode(bytes, at.from), at)),
      openMember: (_, given) => {
        owner = given;
        return member;
      },
    },
    { group: "g", topics: ["orders"], prefetch: 1_000, prefetchPer: "consumer", ...options },
    sink,
  );
  let isOpen = false;
  const opened = opening.finally(() => {
    isOpen = true;
  });
  await time.until(() => isOpen, 10_000);
  const consumer = await opened;
  owner?.assigned(logs);
  return {
    cluster,
    logs,
    script,
    stored,
    asked,
    counts,
    held,
    lost,
    stalls,
    notices,
    consumer,
    owner: owner as RebalanceListener,
    offsets: (partition = 0) => held.filter((one) => one.partition === partition).map(({ record }) => record.offset),
    /** Lets time pass until a condition holds, at most so long. Resolves with whether it does. */
    until: (condition: () => boolean, withinMs = 300_000) => time.until(condition, time.now + withinMs),
    /** Lets so much time pass. */
    pass: async (ms: number) => {
      const end = time.now + ms;
      let isOver = false;
      time.schedule(() => {
        isOver = true;
      }, ms);
      await time.until(() => isOver, end);
    },
    settle: (batch: readonly DeliveredRecord[]) =>
      consumer.settle(batch.map((token) => ({ token, action: "ack" as const }))),
  };
}

/** Never happens by chance. */
const plain = Object.assign(new Prng("plain"), { chance: () => false });
