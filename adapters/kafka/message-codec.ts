import { isUtf8 } from "node:buffer";
import type { ForeignProperties, IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { Headers } from "../../core/delivery.ts";
import { SYSTEM_PREFIX } from "../../core/system-headers.ts";
import type { DeliveredRecord } from "./consuming/partition-ledger.ts";
import type { TopicPartition } from "./port.ts";
import type { RecordToSend } from "./producing/producer.ts";
import type { HeaderList, HeaderToWrite, LogRecord, RecordToWrite } from "./records/contract.ts";
import { headerList, NULL_VALUE, ReadRecord, writtenValue } from "./records/read.ts";

const NONE: HeaderList = Object.freeze({ names: [], values: [] });

/** What another sender's record has beside what anybroker reads of it. */
class KafkaProperties implements ForeignProperties {
  readonly bytes: number;
  /** The bytes of the message's key, where they are no text. */
  readonly key: Buffer | undefined;
  /** The body of a record without a value: one with this very body has none either. */
  readonly #tombstone: Uint8Array | undefined;
  /** The record of the sender's headers, where some are no texts, have no value, or share their names. */
  readonly #record: LogRecord | undefined;
  /** What handlers read of them. */
  readonly #texts: Headers;

  constructor(
    key: Buffer | undefined,
    tombstone: Uint8Array | undefined,
    record: LogRecord | undefined,
    texts: Headers,
  ) {
    this.key = key;
    this.#tombstone = tombstone;
    this.#record = record;
    this.#texts = texts;
    let bytes = 0;
    const seen = new Set<string>();
    const { names, values } = this.#list();
    for (const [index, name] of names.entries()) {
      // One of each name is counted with the headers.
      if (seen.has(name)) bytes += name.length + (values[index]?.length ?? 0);
      seen.add(name);
    }
    this.bytes = bytes;
  }

  isTombstone(body: Uint8Array): boolean {
    return body === this.#tombstone;
  }

  /** Writes headers: those of the sender as they were, where the copy has the texts that stand for them, and in their order. */
  writeHeaders(wire: HeaderToWrite[], headers: Headers): void {
    const done = new Set<string>();
    const { names, values } = this.#list();
    for (const [index, name] of names.entries()) {
      const text = this.#texts[name];
      if (text === undefined || headers[name] !== text) continue;
      done.add(name);
      wire.push([name, writtenValue(values[index] as Buffer)]);
    }
    for (const name in headers) if (!done.has(name)) wire.push([name, headers[name] as string]);
  }

  /** Each time anew: thousands of them may be in few bytes of a log. */
  #list(): HeaderList {
    return this.#record === undefined ? NONE : headerList(this.#record);
  }
}

/**
 * What Kafka has no place for goes in headers of the adapter's own, which are part of no message's headers. No publisher's
 * header begins like them.
 */
export const WIRE_HEADER = Object.freeze({
  id: "anybroker-id",
  contentType: "anybroker-content-type",
  routingKey: "anybroker-routing-key",
  /** The message's key, where the record's is another. */
  key: "anybroker-key",
  /** On a dead letter of a record without a value: one without would remove itself. */
  tombstone: "anybroker-tombstone",
});

/** On a message whose headers were over the limits of a reader: why there are none. */
const UNREAD_HEADERS = `${SYSTEM_PREFIX}headers-not-read`;

const OWN_HEADERS: ReadonlySet<string> = new Set(Object.values(WIRE_HEADER));
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze(Object.create(null));
const ROUTING_KEY = Buffer.from(WIRE_HEADER.routingKey);
const JSON_TYPE = "application/json";
const JSON_BYTES = Buffer.from(JSON_TYPE);

/** A record as it stands in the log of a partition: what a handler finds as `delivery.native`. */
export interface KafkaRecord extends TopicPartition {
  readonly offset: number;
  /** Milliseconds since 1970: the broker's clock on topics made by anybroker, else as the topic says. */
  readonly timestamp: number;
  readonly key: Buffer | undefined;
  /** Undefined for a tombstone. */
  readonly value: Buffer | undefined;
  /** Own values on an object without a prototype; of several with one name the last. */
  readonly headers: Readonly<Record<string, Buffer>>;
}

/** A message as a record. Its key decides over its partition. */
export function toRecord(message: OutgoingMessage): RecordToSend {
  const key = keyOf(message);
  return {
    key: typeof key === "string" ? Buffer.from(key) : key,
    value: isTombstone(message) ? undefined : message.body,
    headers: wireHeaders(message),
  };
}

/** A message as a record under another key, with a value in any case. */
export function toRecordUnder(key: Uint8Array, message: OutgoingMessage): RecordToWrite {
  const headers = wireHeaders(message);
  const own = keyOf(message);
  if (own !== undefined) headers.push([WIRE_HEADER.key, own]);
  if (isTombstone(message)) headers.push([WIRE_HEADER.tombstone, "1"]);
  return { key, value: message.body, headers };
}

function foreignOf({ foreign }: OutgoingMessage): KafkaProperties | undefined {
  return foreign instanceof KafkaProperties ? foreign : undefined;
}

function isTombstone(message: OutgoingMessage): boolean {
  return foreignOf(message)?.isTombstone(message.body) === true;
}

/** The bytes that were read, where the text stands for them. */
function keyOf(message: OutgoingMessage): string | Buffer | undefined {
  const { key } = message;
  const bytes = foreignOf(message)?.key;
  return bytes !== undefined && asText(bytes) === key ? bytes : key;
}

function wireHeaders(message: OutgoingMessage): HeaderToWrite[] {
  const wire: HeaderToWrite[] = [[WIRE_HEADER.id, message.id]];
  if (message.contentType !== undefined) wire.push([WIRE_HEADER.contentType, message.contentType]);
  if (message.routingKey !== undefined) wire.push([WIRE_HEADER.routingKey, message.routingKey]);
  const { headers } = message;
  const foreign = foreignOf(message);
  if (foreign !== undefined) {
    foreign.writeHeaders(wire, headers);
    return wire;
  }
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined) wire.push([name, value]);
  }
  return wire;
}

/** A delivered record in anybroker's terms; it is its own token. */
export function incoming(delivered: DeliveredRecord): IncomingMessage<KafkaRecord> {
  return incomingRecord(delivered, delivered.record, delivered, delivered.crashes);
}

/**
 * A record in anybroker's terms. One that another sender wrote has the id `<topic>-<partition>-<offset>`, the same at each
 * delivery. Bytes that are no UTF-8, in its key or headers, become base64; a tombstone has an empty body.
 */
export function incomingRecord(
  { topic, partition }: TopicPartition,
  record: LogRecord,
  token: unknown,
  redeliveries: number,
): IncomingMessage<KafkaRecord> {
  const { offset, value, problem } = record;
  const wire = headerList(record);
  const id = own(wire, WIRE_HEADER.id);
  const key = bytesOf(wire, WIRE_HEADER.key) ?? record.key;
  const body = value ?? Buffer.alloc(0);
  const headers = messageHeaders(wire, problem?.message);
  const isValueless = value === undefined || (value.length === 0 && wire.names.includes(WIRE_HEADER.tombstone));
  const tombstone = isValueless && record.unreadable === undefined;
  const foreign = foreignProperties(key, tombstone ? body : undefined, record, arePlain(wire), headers);
  return {
    token,
    id: id === undefined || id === "" ? `${topic}-${partition}-${offset}` : id,
    key: key === undefined ? undefined : asText(key),
    routingKey: own(wire, WIRE_HEADER.routingKey),
    headers,
    body,
    contentType: contentTypeOf(wire),
    redeliveries,
    sentAt: timeOf(record.timestamp),
    ...(tombstone ? { tombstone } : undefined),
    ...(foreign === undefined ? undefined : { foreign }),
    ...(record.unreadable === undefined ? undefined : { unreadable: record.unreadable.error }),
    native: record instanceof ReadRecord ? record : nativeRecord(topic, partition, record),
  };
}

/** What subscriptions filter by. */
export function routingKeyOf(record: LogRecord): string | undefined {
  const { written } = record;
  // Asked of every record that is fetched: nothing is made of the other headers.
  if (written === undefined) return own(headerList(record), WIRE_HEADER.routingKey);
  const value = written.last(ROUTING_KEY);
  return value === undefined ? undefined : asText(value);
}

/** Undefined where key, body and headers say it all, as with anybroker's own. */
function foreignProperties(
  key: Buffer | undefined,
  tombstone: Buffer | undefined,
  record: LogRecord,
  isPlain: boolean,
  headers: Readonly<Record<string, string>>,
): KafkaProperties | undefined {
  const bytes = key === undefined || isUtf8(key) ? undefined : key;
  if (isPlain && bytes === undefined && tombstone === undefined) return undefined;
  return new KafkaProperties(bytes, tombstone, isPlain ? undefined : record, headers);
}

/** Whether headers are texts, each under a name of its own. */
function arePlain({ names, values }: HeaderList): boolean {
  for (let index = 0; index < names.length; index++) {
    const value = values[index] as Buffer;
    if (value === NULL_VALUE || !isUtf8(value)) return false;
  }
  return names.length < 2 || new Set(names).size === names.length;
}

/** The furthest that a `Date` can be from 1970; records may have any time, also in other units than milliseconds. */
const MAX_MS = 8_640_000_000_000_000;

function timeOf(timestamp: number): number | undefined {
  return timestamp >= 0 && timestamp <= MAX_MS ? timestamp : undefined;
}

function messageHeaders({ names, values }: HeaderList, problem: string | undefined): Readonly<Record<string, string>> {
  let headers: Record<string, string> | undefined;
  for (let index = 0; index < names.length; index++) {
    const name = names[index] as string;
    if (OWN_HEADERS.has(name)) continue;
    headers ??= Object.create(null) as Record<string, string>;
    headers[name] = asText(values[index] as Buffer);
  }
  if (problem !== undefined) {
    headers ??= Object.create(null) as Record<string, string>;
    headers[UNREAD_HEADERS] = problem;
  }
  // Most messages have none, and share the object that says so.
  return headers ?? NO_HEADERS;
}

function nativeRecord(topic: string, partition: number, record: LogRecord): KafkaRecord {
  const { offset, timestamp, key, value, headers } = record;
  return { topic, partition, offset, timestamp, key, value, headers };
}

/** The last of a name counts. */
function bytesOf({ names, values }: HeaderList, name: string): Buffer | undefined {
  const index = names.lastIndexOf(name);
  return index < 0 ? undefined : values[index];
}

function own(wire: HeaderList, name: string): string | undefined {
  const value = bytesOf(wire, name);
  return value === undefined ? undefined : asText(value);
}

function contentTypeOf(wire: HeaderList): string | undefined {
  const value = bytesOf(wire, WIRE_HEADER.contentType);
  if (value === undefined) return undefined;
  return value.equals(JSON_BYTES) ? JSON_TYPE : asText(value);
}

function asText(bytes: Buffer): string {
  return isUtf8(bytes) ? bytes.toString("utf8") : bytes.toString("base64");
}
