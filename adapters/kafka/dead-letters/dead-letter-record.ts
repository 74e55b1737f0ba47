import type { OutgoingMessage } from "../../../core/adapter.ts";
import type { Random } from "../../../core/clock.ts";
import { toRecordUnder } from "../message.ts";
import type { RecordToSend } from "../producing/contract.ts";
import type { LogRecord } from "../records/contract.ts";
import { CopiedHeaders, headerList } from "../records/header-list.ts";
import { asBytes, asText, entryKey, isEntryKey } from "./entry-key.ts";

/** The one partition of a topic of dead letters. */
export const PARTITION = 0;

/** A message as a dead letter, under a fresh key of its own; the message's key goes in a header. */
export function deadLetterRecord(message: OutgoingMessage, random: Pick<Random, "bytes">): RecordToSend {
  return { ...toRecordUnder(asBytes(entryKey(message, random)), message), partition: PARTITION };
}

/** What removes the record of a key. */
export function tombstone(key: string): RecordToSend {
  return { key: asBytes(key), value: undefined, headers: [], partition: PARTITION };
}

/**
 * A dead letter as the record that its message was: without the entry's key. Its bytes are its own: those of a piece of a
 * log share its memory, so that a prefetch of such would hold a piece each.
 */
export function restoredRecord(record: LogRecord): LogRecord {
  const written = new CopiedHeaders(headerList(record));
  const headers: Record<string, Buffer> = Object.create(null);
  const { names, values } = written.list();
  for (const [index, name] of names.entries()) headers[name] = values[index] as Buffer;
  const { key, value } = record;
  const isOurs = key !== undefined && isEntryKey(asText(key));
  return {
    offset: record.offset,
    timestamp: record.timestamp,
    problem: record.problem,
    key: isOurs ? undefined : key && Buffer.from(key),
    value: value && Buffer.from(value),
    headers,
    written,
  };
}
