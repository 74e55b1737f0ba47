import type { IncomingMessage, Watcher } from "../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Cluster } from "./cluster.ts";
import type { Log } from "./dead-letters/partition-log.ts";
import { PARTITION } from "./dead-letters/records.ts";
import { DeadLettersScan } from "./dead-letters/references.ts";
import { incomingRecord, type KafkaRecord } from "./message-codec.ts";
import type { TopicPartition } from "./port.ts";
import { unreadableRecord } from "./records/read.ts";

const MAX_MESSAGES = 256;
const MAX_BYTES = 1024 * 1024;

/** Nothing is known of what is hidden or unreadable. */
const UNKNOWN_EXTENT = { lastOffset: 0, records: 1, timestamp: 0, appendTime: false };

/**
 * Reads the dead letters of a log in batches, without consuming them. If some cannot be read, the last message is no
 * dead letter: its `unreadable` says why, and `unread` is called with it. Closes the log.
 */
export async function* browseDeadLetters(
  log: Log,
  unread: (cause: MessagingError) => void,
): AsyncGenerator<readonly IncomingMessage<KafkaRecord>[], void, undefined> {
  try {
    const scan = await DeadLettersScan.of(log);
    const at = { topic: log.topic, partition: PARTITION, topicId: log.topicId };
    let batch: IncomingMessage<KafkaRecord>[] = [];
    let bytes = 0;
    for await (const { record } of scan.entries()) {
      const message = incomingRecord(at, record, undefined, 0);
      batch.push(message);
      bytes += message.body.length;
      if (batch.length < MAX_MESSAGES && bytes < MAX_BYTES) continue;
      yield batch;
      batch = [];
      bytes = 0;
    }
    if (scan.unread !== undefined) {
      unread(scan.unread);
      batch.push(incomingRecord(at, unreadableRecord(0, UNKNOWN_EXTENT, scan.unread), undefined, 0));
    }
    if (batch.length > 0) yield batch;
  } finally {
    await log.close();
  }
}

const WAIT_MS = 500;

/** Shows new records of a topic. It uses no group, so it leaves no trace on the cluster. */
export async function watchLogs(
  cluster: Cluster,
  topic: string,
  openLog: (at: TopicPartition) => Log,
  watcher: Watcher<KafkaRecord>,
): Promise<() => Promise<void>> {
  const found = await cluster.topics([topic]);
  const partitions = found.flatMap((one) =>
    one.partitions.map(({ partition }): TopicPartition => ({ topic, partition })),
  );
  const ends = await cluster.listOffsets(partitions.map((at) => ({ ...at, at: "latest" })));
  const logs = partitions.map(openLog);
  let isOver = false;
  // One partition at a time.
  let last: Promise<void> = Promise.resolve();
  const reading = logs.map(async (log, index) => {
    for (let from = ends[index] ?? 0; !isOver; ) {
      const piece = await log.read(from, WAIT_MS);
      if (piece === "out-of-range") {
        from = await log.first();
        continue;
      }
      const { records, nextOffset, unreadable } = piece;
      last = last.then(async () => {
        if (records.length > 0 && !isOver)
          await watcher.seen(records.map((record) => incomingRecord(log, record, undefined, 0)));
      });
      await last;
      // Unreadable batches are left out.
      from = unreadable === undefined ? nextOffset : (unreadable.resumeAt ?? nextOffset + 1);
    }
  });
  const stop = async (): Promise<void> => {
    isOver = true;
    await Promise.all(logs.map((log) => log.close()));
    await Promise.allSettled(reading);
  };
  Promise.all(reading).catch((error: unknown) => {
    if (isOver) return;
    void stop();
    const failure = isMessagingError(error) ? error : undefined;
    const text = `watching topic "${topic}" ended; see the cause, and watch again`;
    watcher.ended(new MessagingError(failure?.code ?? "unreachable", text, { cause: error }));
  });
  return stop;
}
