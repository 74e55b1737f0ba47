import type { IncomingMessage } from "../../core/adapter.ts";
import { DeadLettersScan, type Log, PARTITION } from "./dead-letters/index.ts";
import { incomingRecord, type KafkaRecord } from "./message.ts";

const MOST_MESSAGES = 256;
const MOST_BYTES = 1024 * 1024;

/** The dead letters that stand in a log, in batches, whoever receives them meanwhile. Closes the log. */
export async function* browseDeadLetters(
  log: Log,
): AsyncGenerator<readonly IncomingMessage<KafkaRecord>[], void, undefined> {
  const at = { topic: log.topic, partition: PARTITION };
  try {
    const scan = await DeadLettersScan.of(log);
    let batch: IncomingMessage<KafkaRecord>[] = [];
    let bytes = 0;
    for await (const { record } of scan.entries()) {
      const message = incomingRecord(at, record, undefined, 0);
      batch.push(message);
      bytes += message.body.length;
      if (batch.length < MOST_MESSAGES && bytes < MOST_BYTES) continue;
      yield batch;
      batch = [];
      bytes = 0;
    }
    if (batch.length > 0) yield batch;
  } finally {
    await log.close();
  }
}
