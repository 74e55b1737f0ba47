import type {
  DeadLetterResult,
  DeliverySink,
  IncomingMessage,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendResult,
} from "../../core/adapter.ts";
import type { DeadLettersAddress, Source } from "../../core/address.ts";
import type { Clock, Random } from "../../core/clock.ts";
import { routingMatches } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { shownId } from "../../core/foreign.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { Cluster } from "./cluster.ts";
import type { ConsumerOptions, RecordConsumer, RecordSink } from "./consuming/assigned-partition.ts";
import { openConsumer } from "./consuming/consumer.ts";
import type { RecordDecoder } from "./consuming/fetch-failures.ts";
import type { DeliveredRecord } from "./consuming/partition-ledger.ts";
import { type Log, PartitionLog } from "./dead-letters/partition-log.ts";
import { receiveDeadLetters } from "./dead-letters/receiver.ts";
import { PARTITION } from "./dead-letters/records.ts";
import {
  lowestReferences,
  readReference,
  referenceTo,
  referredRecords,
  referringLetter,
} from "./dead-letters/references.ts";
import { DelayForwarder, type ForwarderDependencies, RepeatedNotices } from "./delays/forwarder.ts";
import type { GroupMember, RebalanceListener } from "./group/coordinator.ts";
import { openMember } from "./group/member.ts";
import { incoming, incomingRecord, type KafkaRecord, routingKeyOf } from "./message-codec.ts";
import { type DelayableAddress, delaysGroup, delaysTopic, groupName, topicName, topicsOf } from "./names.ts";
import { rebalanceTimeoutMs, type Settings } from "./options.ts";
import type { KafkaClient, TopicPartition } from "./port.ts";
import type { Producer } from "./producing/producer.ts";
import type { KafkaPublisher } from "./publisher.ts";
import type { LogRecord } from "./records/contract.ts";
import { decodeRecords } from "./records/decode.ts";
import type { Trimmer } from "./topology/trimmer.ts";

type FactorySettings = Pick<
  Settings,
  | "sessionTimeoutMs"
  | "drainTimeoutMs"
  | "requestTimeoutMs"
  | "reconnectFirstMs"
  | "reconnectMaxMs"
  | "maxInflatedBytes"
>;

/** Opens consumers, group members and logs. */
export class ConsumerFactory {
  readonly #client: KafkaClient;
  readonly #settings: FactorySettings;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #trimmer: Trimmer | undefined;
  readonly #decode: RecordDecoder;

  /** With a trimmer, handled records are deleted once no other group needs them. */
  constructor(
    client: KafkaClient,
    settings: FactorySettings,
    clock: Clock,
    random: Random,
    trimmer: Trimmer | undefined,
  ) {
    this.#client = client;
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
    this.#trimmer = trimmer;
    const { maxInflatedBytes } = settings;
    this.#decode = (bytes, options) => decodeRecords(bytes, { ...options, limits: { maxInflatedBytes } });
  }

  /** Opens a consumer. `heartbeatMs` is for groups that need not react fast; see {@link MemberOptions}. */
  consumer(options: ConsumerOptions, sink: RecordSink, heartbeatMs?: number): Promise<RecordConsumer> {
    const { drainTimeoutMs, reconnectFirstMs, reconnectMaxMs, sessionTimeoutMs } = this.#settings;
    return openConsumer(
      {
        client: this.#client,
        decode: this.#decode,
        clock: this.#clock,
        random: this.#random,
        retry: { firstMs: reconnectFirstMs, maxMs: reconnectMaxMs },
        drainMs: drainTimeoutMs,
        sessionTimeoutMs,
        openMember: ({ group, topics }, listener) => this.member(group, topics, listener, heartbeatMs),
        progressed: (at) => {
          // Other subscriptions read the event topic as well, so only the own topic is trimmed.
          if (at.topic === options.group) this.#trimmer?.progressed(options.group, at);
        },
      },
      options,
      sink,
    );
  }

  member(group: string, topics: readonly string[], listener: RebalanceListener, heartbeatMs?: number): GroupMember {
    const { sessionTimeoutMs } = this.#settings;
    return openMember({
      client: this.#client,
      group,
      topics,
      sessionTimeoutMs,
      rebalanceTimeoutMs: rebalanceTimeoutMs(this.#settings),
      ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
      listener,
      clock: this.#clock,
      random: this.#random,
    });
  }

  /** Opens the single partition of a dead-letters topic. */
  deadLetters(topic: string): Log {
    return this.log({ topic, partition: PARTITION });
  }

  /** Opens a partition for reading without a group. */
  log(at: TopicPartition): Log {
    return new PartitionLog(at, {
      connection: this.#client.connection(),
      decode: this.#decode,
      clock: this.#clock,
      patienceMs: this.#settings.requestTimeoutMs,
    });
  }
}

/** The destinations whose delayed messages this source receives. */
function delayedFor(source: Source): readonly DelayableAddress[] {
  switch (source.kind) {
    case "queue":
      return [source];
    case "subscription":
      return [{ kind: "topic", name: source.topic }, source];
    case "dead-letters":
      return [];
  }
}

interface Shared {
  readonly forwarder: DelayForwarder;
  count: number;
}

/** Forwards delayed messages: one forwarder per destination that this process receives from. */
export class DelayForwarders {
  readonly #context: ForwarderDependencies;
  readonly #shared = new Map<string, Shared>();

  constructor(context: ForwarderDependencies) {
    this.#context = context;
  }

  /** Forwards the delayed messages of a source. The function returned ends that. */
  run(source: Source): () => Promise<void> {
    const names = delayedFor(source).map((address) => this.#begin(address));
    return async () => {
      await Promise.all(names.splice(0).map((name) => this.#end(name)));
    };
  }

  #begin(address: DelayableAddress): string {
    const delays = delaysTopic(address);
    const shared = this.#shared.get(delays);
    if (shared !== undefined) {
      shared.count++;
      return delays;
    }
    const deadLetters = address.kind === "topic" ? undefined : ({ kind: "dead-letters", of: address } as const);
    const destination = { topic: topicName(address), delays, group: delaysGroup(address), deadLetters };
    this.#shared.set(delays, { forwarder: new DelayForwarder(this.#context, destination), count: 1 });
    return delays;
  }

  async #end(delays: string): Promise<void> {
    const shared = this.#shared.get(delays);
    if (shared === undefined || --shared.count > 0) return;
    this.#shared.delete(delays);
    await shared.forwarder.close();
  }
}

/** Reads the messages that a dead letter refers to: one, or those of an unreadable batch. */
export async function resolveReference(
  factory: ConsumerFactory,
  { of }: DeadLettersAddress,
  letter: IncomingMessage,
): Promise<readonly IncomingMessage<KafkaRecord>[]> {
  const isReference = letter.headers[HEADER.deadReference] !== undefined;
  const reference = isReference ? readReference(letter.body) : undefined;
  // Foreign dead letters must not make the adapter read records of other topics.
  if (reference === undefined || ![...topicsOf(of), delaysTopic(of)].includes(reference.topic)) {
    throw new MessagingError("invalid", `dead letter ${shownId(letter.id)} refers to nothing that belongs to it`);
  }
  const log = factory.log(reference);
  const records = await referredRecords(log, reference);
  const { filter } = reference;
  return records
    .filter((record) => filter === undefined || routingMatches(filter, routingKeyOf(record)))
    .map((record) => incomingRecord(log, record, undefined, 0));
}

/** The parts of the adapter that a receiver uses. */
export interface ReceiverContext {
  readonly cluster: Cluster;
  readonly factory: ConsumerFactory;
  readonly forwarders: DelayForwarders;
  readonly producer: Producer;
  readonly sender: KafkaPublisher;
  /** Whether a partition continues behind an unreadable batch, which is dead-lettered. */
  readonly passesUnreadable: boolean;
  readonly clock: Clock;
  readonly random: Random;
  notice(error: MessagingError): void;
  /** Recreates missing topics if that is allowed. */
  restore(): void;
  closed(receiver: Receiver): void;
}

/** Starts to receive messages. Rejects if the first subscription fails. */
export async function openReceiver(
  context: ReceiverContext,
  from: Source,
  options: ReceiveOptions,
  sink: DeliverySink<KafkaRecord>,
): Promise<Receiver> {
  const records = recordSink(context, sink);
  // The member joins in the background; a missing right is reported now.
  await context.cluster.committed(groupName(from), []);
  if (from.kind === "dead-letters") {
    const { factory, producer, clock, random } = context;
    const topic = topicName(from);
    const openLog = () => factory.deadLetters(topic);
    const join = factory.member.bind(factory, groupName(from), [topic]);
    const { prefetch, wanted } = options;
    const isWanted =
      wanted === undefined ? {} : { wanted: (delivered: DeliveredRecord) => wanted(incoming(delivered)) };
    const parts = { producer, clock, random, openLog, join, ...isWanted };
    return withEnd(context, await receiveDeadLetters(parts, prefetch, records));
  }
  const deadLetters = { kind: "dead-letters", of: from } as const;
  const consumer = await context.factory.consumer(consumerOptions(context, from, deadLetters, options, sink), records);
  const filter = options.subscription?.filter;
  const moving: Receiver["deadLetter"] = (token, letter) =>
    moveByReference(context.sender, consumer, deadLetters, token as DeliveredRecord, letter, filter);
  return withEnd(context, consumer, context.forwarders.run(from), moving);
}

/** Writes a dead letter that refers to the record in its log, then settles the record. */
async function moveByReference(
  sender: KafkaPublisher,
  consumer: RecordConsumer,
  to: DeadLettersAddress,
  delivered: DeliveredRecord,
  letter: OutgoingMessage,
  filter: string | undefined,
): Promise<DeadLetterResult> {
  const end = consumer.keep(delivered);
  if (end === undefined) return { status: "fenced" };
  const referring = referringLetter(letter, referenceTo(delivered, filter));
  const result = await new Promise<SendResult>((resolve) => sender.send(to, [referring], (_, one) => resolve(one)));
  end();
  if (result.status === "rejected") return { status: "refused", error: result.error };
  if (result.status === "unknown") return result;
  const [status = "fenced"] = await consumer.settle([{ token: delivered, action: "ack" }]);
  return { status };
}

/** Finds which records dead letters refer to. Rejects, and reports it, if it cannot read all of them. */
export async function references(
  { factory, notice }: Pick<ReceiverContext, "factory" | "notice">,
  of: DeadLettersAddress,
): Promise<ReadonlyMap<string, number>> {
  const topic = topicName(of);
  try {
    return await lowestReferences(factory.deadLetters(topic));
  } catch (cause) {
    const text = `records that dead letters refer to stay on disk, with everything behind them, because "${topic}" cannot be read completely; it is tried again`;
    notice(new MessagingError(isMessagingError(cause) ? cause.code : "unreachable", text, { cause }));
    throw cause;
  }
}

/** Messages in a subscription's own topic were sent to it alone and are not filtered. */
function consumerOptions(
  context: ReceiverContext,
  from: Source,
  deadLetters: DeadLettersAddress,
  { prefetch, subscription }: ReceiveOptions,
  sink: Pick<DeliverySink, "filtered">,
): ConsumerOptions {
  const { passesUnreadable } = context;
  const filter = subscription?.filter;
  const every = {
    group: groupName(from),
    topics: topicsOf(from),
    prefetch,
    prefetchPer: "consumer",
    deliversUnreadable: passesUnreadable,
    references: () => references(context, deadLetters),
  } as const;
  if (filter === undefined || filter === "#") return every;
  const own = topicName(from);
  const wanted = (record: LogRecord, topic: string): boolean => {
    if (topic === own || routingMatches(filter, routingKeyOf(record))) return true;
    sink.filtered(1);
    return false;
  };
  return { ...every, wanted };
}

function recordSink(context: ReceiverContext, sink: DeliverySink<KafkaRecord>): RecordSink {
  const restoreIfGone = (error: MessagingError): void => {
    if (isMessagingError(error, "not-found")) context.restore();
  };
  const notices = new RepeatedNotices(context.clock, (error) => context.notice(error));
  const reportUnreadHeaders = ({ topic, partition, record }: DeliveredRecord, cause: MessagingError): void => {
    const where = `offset ${record.offset} of topic "${topic}", partition ${partition},`;
    const text = `${where} is delivered without its headers, which are over the limits: ${cause.message}`;
    notices.report(topic, new MessagingError(cause.code, text, { cause }));
  };
  return {
    deliver: (records) => {
      for (const delivered of records)
        if (delivered.record.problem !== undefined) reportUnreadHeaders(delivered, delivered.record.problem);
      sink.deliver(records.map(incoming));
    },
    revoke: (records) => sink.revoke(records),
    lost: (records, cause) => sink.lost(records, cause),
    stalled: (cause) => {
      restoreIfGone(cause);
      sink.stalled(cause);
    },
    flowing: () => sink.flowing(),
    notice: (error) => {
      restoreIfGone(error);
      context.notice(error);
    },
  };
}

/** A receiver, with the forwarders that end with it. */
function withEnd(
  context: ReceiverContext,
  inner: Receiver,
  end?: () => Promise<void>,
  deadLetter?: Receiver["deadLetter"],
): Receiver {
  const receiver: Receiver = {
    leaseMs: undefined,
    prefetch: (count) => inner.prefetch(count),
    settle: (batch) => inner.settle(batch),
    extend: (batch) => inner.extend(batch),
    close: async () => {
      await Promise.all([inner.close(), end?.()]);
      context.closed(receiver);
    },
    ...(deadLetter === undefined ? {} : { deadLetter }),
  };
  return receiver;
}
