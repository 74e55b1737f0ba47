import { isUtf8 } from "node:buffer";
import type { ForeignProperties, IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { MessageHeaders } from "../../core/delivery.ts";
import { SYSTEM_PREFIX } from "../../core/system-headers.ts";
import type { DeliveredRecord } from "./consuming/partition-ledger.ts";
import { type RecordPlace, recordId } from "./names.ts";
import type { TopicPartition } from "./port.ts";
import type { RecordToSend } from "./producing/producer.ts";
import type { HeaderList, HeaderToWrite, LogRecord, RecordToWrite } from "./records/contract.ts";
import { headerList, NULL_VALUE, ReadRecord, writtenValue } from "./records/read.ts";

const NONE: HeaderList = Object.freeze({ names: [], values: [] });

/** The properties of a foreign record that a message cannot express. */
class KafkaProperties implements ForeignProperties {
  readonly bytes: number;
  /** The bytes of the message's key, if they are not text. */
  readonly key: Buffer | undefined;
  /** The body of a record without a value. A copy with this same object has no value either. */
  readonly #tombstone: Uint8Array | undefined;
  /** The record of the headers, if some are not text, have no value or share a name. */
  readonly #record: LogRecord | undefined;
  /** The headers as handlers see them. */
  readonly #texts: MessageHeaders;

  constructor(
    key: Buffer | undefined,
    tombstone: Uint8Array | undefined,
    record: LogRecord | undefined,
    texts: MessageHeaders,
  ) {
    this.key = key;
    this.#tombstone = tombstone;
    this.#record = record;
    this.#texts = texts;
    let bytes = 0;
    const seen = new Set<string>();
    const { names, values } = this.#list();
    for (const [index, name] of names.entries()) {
      // The first header of each name is counted with the headers.
      if (seen.has(name)) bytes += name.length + (values[index]?.length ?? 0);
      seen.add(name);
    }
    this.bytes = bytes;
  }

  isTombstone(body: Uint8Array): boolean {
    return body === this.#tombstone;
  }

  /** Writes headers. The sender's come first, in their order and with their bytes, unless a copy changed their text. */
  writeHeaders(wire: HeaderToWrite[], headers: MessageHeaders): void {
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

  /** Not kept: a few bytes of a log may hold thousands of headers. */
  #list(): HeaderList {
    return this.#record === undefined ? NONE : headerList(this.#record);
  }
}

/** Headers of the adapter, for what a Kafka record has no field for. Publishers cannot set headers with this prefix. */
export const WIRE_HEADER = Object.freeze({
  id: "anybroker-id",
  contentType: "anybroker-content-type",
  routingKey: "anybroker-routing-key",
  /** The message's key, if the record's key differs. */
  key: "anybroker-key",
  /** On a dead letter of a record without a value: a dead letter without a value would delete itself. */
  tombstone: "anybroker-tombstone",
});

/** Why a message has no headers: they exceeded the reader's limits. */
const UNREAD_HEADERS = `${SYSTEM_PREFIX}headers-not-read`;

const OWN_HEADERS: ReadonlySet<string> = new Set(Object.values(WIRE_HEADER));
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze(Object.create(null));
const ROUTING_KEY = Buffer.from(WIRE_HEADER.routingKey);
const JSON_TYPE = "application/json";
const JSON_BYTES = Buffer.from(JSON_TYPE);

/** A record in the log of a partition. Handlers see it as `delivery.native`. */
export interface KafkaRecord extends TopicPartition {
  readonly offset: number;
  /** Milliseconds since 1970, by the broker's clock on topics created by anybroker. */
  readonly timestamp: number;
  readonly key: Buffer | undefined;
  /** Undefined for a tombstone. */
  readonly value: Buffer | undefined;
  /** Own properties of an object without a prototype. Of several headers with one name, the last. */
  readonly headers: Readonly<Record<string, Buffer>>;
}

/** Encodes a message as a record. The key chooses the partition. */
export function toRecord(message: OutgoingMessage): RecordToSend {
  const key = keyOf(message);
  return {
    key: typeof key === "string" ? Buffer.from(key) : key,
    value: isTombstone(message) ? undefined : message.body,
    headers: wireHeaders(message),
  };
}

/** Encodes a message as a record under another key. The record always has a value. */
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

/** The original bytes of the key, unless the message has another key. */
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

/** Converts a delivered record to a message; the record is its token. */
export function incoming(delivered: DeliveredRecord): IncomingMessage<KafkaRecord> {
  return incomingRecord(delivered, delivered.record, delivered, delivered.crashes);
}

/**
 * Converts a record to a message. A foreign record gets the id `<topic>-<partition>-<offset>-<topic id>`, which is the
 * same in each delivery. Keys and headers that are not UTF-8 become base64. A tombstone has an empty body.
 */
export function incomingRecord(
  place: RecordPlace,
  record: LogRecord,
  token: unknown,
  redeliveries: number,
): IncomingMessage<KafkaRecord> {
  const { topic, partition } = place;
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
    id: id === undefined || id === "" ? recordId(place, offset) : id,
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

/** The routing key that subscriptions filter by. */
export function routingKeyOf(record: LogRecord): string | undefined {
  const { written } = record;
  // Runs for every fetched record, so it decodes no other header.
  if (written === undefined) return own(headerList(record), WIRE_HEADER.routingKey);
  const value = written.last(ROUTING_KEY);
  return value === undefined ? undefined : asText(value);
}

/** Undefined if key, body and headers express the whole record, as for anybroker's own. */
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

/** Whether all headers are text with distinct names. */
function arePlain({ names, values }: HeaderList): boolean {
  for (let index = 0; index < names.length; index++) {
    const value = values[index] as Buffer;
    if (value === NULL_VALUE || !isUtf8(value)) return false;
  }
  return names.length < 2 || new Set(names).size === names.length;
}

/** The range of a `Date`. Foreign records may have any timestamp, even in other units. */
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
  // Most messages have no headers and share one object.
  return headers ?? NO_HEADERS;
}

function nativeRecord(topic: string, partition: number, record: LogRecord): KafkaRecord {
  const { offset, timestamp, key, value, headers } = record;
  return { topic, partition, offset, timestamp, key, value, headers };
}

/** The last header of a name wins. */
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
