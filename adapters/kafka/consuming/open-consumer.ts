import type { Clock, Random } from "../../../core/clock.ts";
import { DECLARE_IT, MessagingError } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import { firstAssignment } from "../group/first-assignment.ts";
import type { KafkaConnection } from "../port.ts";
import { withoutId } from "../topic-identity.ts";
import { PartitionConsumer } from "./consumer.ts";
import type { ConsumerParts } from "./consumer-parts.ts";
import type { ConsumerOptions, RecordConsumer, RecordSink } from "./contract.ts";

/** What a consumer is made of; see {@link ConsumerParts}. */
export interface OpenConsumerParts
  extends Omit<ConsumerParts, "retry" | "maxBufferBytes" | "drainMs" | "sessionTimeoutMs" | "reviewMs"> {
  /** Between attempts at whatever failed. Default: 100 ms, doubled up to 3 s. */
  readonly retry?: BackoffTimes | undefined;
  /** The most bytes that are read ahead, in all, roughly. Default 64 MiB. */
  readonly maxBufferBytes?: number | undefined;
  /** Milliseconds that what is out may take to be settled when others are to have its partition. Default 60,000. */
  readonly drainMs?: number | undefined;
  /** The session timeout of the group's members, in milliseconds. Default 30,000. */
  readonly sessionTimeoutMs?: number | undefined;
  /** See {@link ConsumerParts.reviewMs}. Default 600,000: each time all dead letters are read. */
  readonly reviewMs?: number | undefined;
}

const DEFAULT_RETRY: BackoffTimes = Object.freeze({ firstMs: 100, maxMs: 3_000 });
const DEFAULT_BUFFER_BYTES = 64 * 1024 * 1024;
const DEFAULT_DRAIN_MS = 60_000;
const DEFAULT_SESSION_MS = 30_000;
const DEFAULT_REVIEW_MS = 600_000;
/** A topic that was made just now may not be known everywhere. */
const ATTEMPTS_TO_FIND = 5;

/**
 * Joins a group and consumes what it is assigned. Resolves when it has its share of the partitions, or if that
 * does not come about within 10 s, which `stalled` explains; rejects with `not-found` for
 * a topic that does not exist, `conflict` for a group with members of another protocol, `unauthorized`, `unsupported` for
 * a topic without an id, or `unreachable`.
 */
export async function openConsumer(
  parts: OpenConsumerParts,
  options: ConsumerOptions,
  sink: RecordSink,
): Promise<RecordConsumer> {
  const { retry = DEFAULT_RETRY, maxBufferBytes = DEFAULT_BUFFER_BYTES, drainMs = DEFAULT_DRAIN_MS } = parts;
  const { sessionTimeoutMs = DEFAULT_SESSION_MS, reviewMs = DEFAULT_REVIEW_MS } = parts;
  const all = { ...parts, retry, maxBufferBytes, drainMs, sessionTimeoutMs, reviewMs };
  const consumer = new PartitionConsumer(all, options, sink);
  try {
    await findTopics(consumer.fetcher.connection, options.topics, { ...parts, retry });
    const { group, topics } = options;
    const member = parts.openMember({ group, topics }, consumer.owner);
    consumer.start(member);
    await firstAssignment(parts.clock, member);
  } catch (error) {
    await consumer.close();
    throw error;
  }
  return consumer;
}

async function findTopics(
  connection: KafkaConnection,
  topics: readonly string[],
  { clock, random, retry }: { readonly clock: Clock; readonly random: Random; readonly retry: BackoffTimes },
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const found = await connection.metadata(topics);
    const refused = found.topics.find(({ error }) => error === "TOPIC_AUTHORIZATION_FAILED");
    if (refused !== undefined) {
      throw new MessagingError("unauthorized", `topic "${refused.topic}" cannot be read: grant the user READ on it`);
    }
    const nameless = found.topics.find(({ error, id }) => error === undefined && id === "");
    if (nameless !== undefined) throw withoutId(nameless.topic);
    const missing = topics.find(
      (wanted) => !found.topics.some(({ topic, error }) => topic === wanted && error === undefined),
    );
    if (missing === undefined) return;
    if (attempt === ATTEMPTS_TO_FIND) {
      throw new MessagingError("not-found", `topic "${missing}" does not exist; ${DECLARE_IT}`);
    }
    await new Promise<void>((resolve) => clock.schedule(resolve, backoffMs(attempt, retry, random)));
  }
}
