import type {
  DeadLetterResult,
  DeliverySink,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendResult,
} from "../../core/adapter.ts";
import type { DeadLettersAddress, Source } from "../../core/address.ts";
import type { Clock, Random } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { routingMatches } from "../../core/routing.ts";
import type { Cluster } from "./cluster.ts";
import type { ConsumerOptions, HeldRecord, RecordConsumer, RecordSink } from "./consuming/contract.ts";
import { lowestReferences, receiveDeadLetters, referenceTo, referringLetter } from "./dead-letters/index.ts";
import { Notices } from "./delays/notices.ts";
import type { Forwarders } from "./forwarders.ts";
import { incoming, type KafkaRecord, routingKeyOf } from "./message.ts";
import { groupName, topicName, topicsOf } from "./names.ts";
import type { Openings } from "./openings.ts";
import type { Producer } from "./producing/contract.ts";
import type { LogRecord } from "./records/contract.ts";
import type { Sender } from "./sender.ts";

/** What receiving takes of the adapter around it. */
export interface ReceivingHost {
  readonly cluster: Cluster;
  readonly openings: Openings;
  readonly forwarders: Forwarders;
  readonly producer: Producer;
  readonly sender: Sender;
  /** Whether a partition goes on behind what cannot be read, which is dead-lettered. */
  readonly passesUnreadable: boolean;
  readonly clock: Clock;
  readonly random: Random;
  notice(error: MessagingError): void;
  /** A topic is gone: makes it again if that is allowed. */
  restore(): void;
  closed(receiver: Receiver): void;
}

/** Begins to take messages. Rejects if the first subscription fails. */
export async function openReceiver(
  host: ReceivingHost,
  from: Source,
  options: ReceiveOptions,
  sink: DeliverySink<KafkaRecord>,
): Promise<Receiver> {
  const records = recordSink(host, sink);
  // A membership begins in the background; a missing right is told now.
  await host.cluster.committed(groupName(from), []);
  if (from.kind === "dead-letters") {
    const { openings, producer, clock, random } = host;
    const topic = topicName(from);
    const openLog = () => openings.deadLetters(topic);
    const join = openings.member.bind(openings, groupName(from), [topic]);
    const { prefetch, wanted } = options;
    const isWanted = wanted === undefined ? {} : { wanted: (held: HeldRecord) => wanted(incoming(held)) };
    const parts = { producer, clock, random, openLog, join, ...isWanted };
    return new OpenReceiver(host, await receiveDeadLetters(parts, prefetch, records));
  }
  const deadLetters = { kind: "dead-letters", of: from } as const;
  const consumer = await host.openings.consumer(consumerOptions(host, from, deadLetters, options, sink), records);
  const filter = options.subscription?.filter;
  const moving: Receiver["deadLetter"] = (token, letter) =>
    moveByReference(host.sender, consumer, deadLetters, token as HeldRecord, letter, filter);
  return new OpenReceiver(host, consumer, host.forwarders.run(from), moving);
}

/** Writes a dead letter that refers to the record, which stays in its log, and then counts the record as finished. */
async function moveByReference(
  sender: Sender,
  consumer: RecordConsumer,
  to: DeadLettersAddress,
  held: HeldRecord,
  letter: OutgoingMessage,
  filter: string | undefined,
): Promise<DeadLetterResult> {
  const end = consumer.keep(held);
  if (end === undefined) return { status: "fenced" };
  const referring = referringLetter(letter, referenceTo(held, filter));
  const result = await new Promise<SendResult>((resolve) => sender.send(to, [referring], (_, one) => resolve(one)));
  end();
  if (result.status === "rejected") return { status: "refused", error: result.error };
  if (result.status === "unknown") return result;
  const [status = "fenced"] = await consumer.settle([{ token: held, action: "ack" }]);
  return { status };
}

/** What stands in a subscription's own topic was sent to it alone, and is not filtered. */
function consumerOptions(
  { openings, passesUnreadable }: ReceivingHost,
  from: Source,
  deadLetters: DeadLettersAddress,
  { prefetch, subscription }: ReceiveOptions,
  sink: Pick<DeliverySink, "filtered">,
): ConsumerOptions {
  const filter = subscription?.filter;
  const every = {
    group: groupName(from),
    topics: topicsOf(from),
    prefetch,
    prefetchPer: "consumer",
    deliversUnreadable: passesUnreadable,
    references: () => lowestReferences(openings.deadLetters(topicName(deadLetters))),
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

function recordSink(host: ReceivingHost, sink: DeliverySink<KafkaRecord>): RecordSink {
  const restoreIfGone = (error: MessagingError): void => {
    if (isMessagingError(error, "not-found")) host.restore();
  };
  const notices = new Notices(host.clock, (error) => host.notice(error));
  const tellUnread = ({ topic, partition, record }: HeldRecord, cause: MessagingError): void => {
    const where = `offset ${record.offset} of topic "${topic}", partition ${partition},`;
    const text = `${where} is delivered without its headers, which are over the limits: ${cause.message}`;
    notices.tell(topic, new MessagingError(cause.code, text, { cause }));
  };
  return {
    deliver: (records) => {
      for (const held of records) if (held.record.problem !== undefined) tellUnread(held, held.record.problem);
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
      host.notice(error);
    },
  };
}

/** A receiver, and what has to end with it. */
class OpenReceiver implements Receiver {
  readonly leaseMs = undefined;
  readonly #host: Pick<ReceivingHost, "closed">;
  readonly #inner: Receiver;
  readonly #end: (() => Promise<void>) | undefined;
  readonly deadLetter?: NonNullable<Receiver["deadLetter"]>;

  constructor(
    host: Pick<ReceivingHost, "closed">,
    inner: Receiver,
    end?: () => Promise<void>,
    deadLetter?: Receiver["deadLetter"],
  ) {
    if (deadLetter !== undefined) this.deadLetter = deadLetter;
    this.#host = host;
    this.#inner = inner;
    this.#end = end;
  }

  prefetch(count: number): void {
    this.#inner.prefetch(count);
  }

  settle(batch: Parameters<Receiver["settle"]>[0]): ReturnType<Receiver["settle"]> {
    return this.#inner.settle(batch);
  }

  extend(batch: Parameters<Receiver["extend"]>[0]): ReturnType<Receiver["extend"]> {
    return this.#inner.extend(batch);
  }

  async close(): Promise<void> {
    await Promise.all([this.#inner.close(), this.#end?.()]);
    this.#host.closed(this);
  }
}
