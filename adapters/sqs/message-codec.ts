import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import type { Message, MessageAttributeValue, MessageSystemAttributeValue } from "@aws-sdk/client-sqs";
import type { ForeignProperties, IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { MessageHeaders } from "../../core/delivery.ts";
import { oneLine } from "../../core/foreign.ts";
import { DERIVED_ID } from "../../core/message-ids.ts";
import { HEADER, SYSTEM_PREFIX } from "../../core/system-headers.ts";

const MAX_TEXT = 300;
/** From a match on, a text repeats a request: its canonical form, headers, a form, or a body in JSON or XML. */
const REPEATS =
  /canonical (string|request)|string[- ]to[- ]sign|x-amz-|authorization( header)?['":]|(credential|signature|action)=|&\w+=|[{["<]/i;
/** As in "Value … for parameter MessageBody is invalid". */
const VALUE = /\bValue .* for parameter\b/;
/** Too long for a word: a token, a receipt handle, a body in base64. Names of resources are shown. */
const LONG = /(?<!\S)(?!\(?(?:arn:|https?:))\S{40,}/g;

/** The first line of a service's message, without what repeats the request, at most 300 characters. */
export function shownText(text: string): string {
  const [line = ""] = text
    .slice(0, 10 * MAX_TEXT)
    .trimStart()
    .split(/[\r\n]/, 1);
  const repeats = line.search(REPEATS);
  const own = (repeats < 0 ? line : line.slice(0, repeats))
    .replace(VALUE, "The value for parameter")
    .replaceAll(LONG, "…");
  return repeats >= 0 ? `${oneLine(own, MAX_TEXT).trimEnd()}…` : oneLine(own, MAX_TEXT);
}

const CODE = /^[A-Za-z][A-Za-z0-9.:#-]{0,99}$/;
const REQUEST_ID = /^[A-Za-z0-9.:#-]{1,100}$/;

/** The code of a service, or an empty string if it does not look like one. */
export function shownCode(code: string): string {
  return CODE.test(code) ? code : "";
}

/** The id of a request, or undefined if it does not look like one. */
export function shownRequestId(id: unknown): string | undefined {
  return typeof id === "string" && REQUEST_ID.test(id) ? id : undefined;
}

const DATA_TYPE = /^(?:String|Number|Binary)(?:\.[\w.-]{1,240})?$/;
const NUMBER = /^-?(\d{1,38})(?:\.(\d{1,38}))?(?:[eE][+-]?\d{1,3})?$/;
const MAX_DIGITS = 38;
const BASE64_TEXT = /^[A-Za-z0-9+/]+={0,2}$/;
const TRACE = "AWSTraceHeader";

/** A message attribute that is not just a string, and the text that handlers read. */
interface TypedAttribute {
  readonly dataType: string;
  readonly text: string;
}

/** A foreign event in SNS's envelope. */
interface ForeignEnvelope {
  readonly text: string;
  /** The event's body: the envelope is written again only with this body. */
  readonly body: Uint8Array;
  readonly headers: ReadonlyMap<string, string>;
}

/** The properties of a foreign message for which anybroker has no field. */
class SqsAttributes implements ForeignProperties {
  readonly typed: ReadonlyMap<string, TypedAttribute>;
  readonly envelope: ForeignEnvelope | undefined;
  readonly bytes: number;
  /** The message group on a standard queue (fair queues). */
  readonly group: string | undefined;
  readonly #trace: string | undefined;

  private constructor(
    typed: ReadonlyMap<string, TypedAttribute>,
    envelope: ForeignEnvelope | undefined,
    group: string | undefined,
    trace: string | undefined,
  ) {
    this.typed = typed;
    this.envelope = envelope;
    this.group = group;
    this.#trace = trace;
    let bytes = envelope === undefined ? 0 : Buffer.byteLength(envelope.text) - envelope.body.length;
    for (const [name, { dataType }] of typed) bytes += name.length + dataType.length;
    this.bytes = bytes;
  }

  /** Undefined if there are none, as on anybroker's own messages. `system` has SQS's attributes. */
  static of(
    typed: ReadonlyMap<string, TypedAttribute>,
    envelope: ForeignEnvelope | undefined,
    system: Readonly<Partial<Record<string, string>>> | undefined,
  ): SqsAttributes | undefined {
    const trace = systemText(system, TRACE);
    const group = system?.SequenceNumber === undefined ? systemText(system, "MessageGroupId") : undefined;
    const isNothing = typed.size === 0 && envelope === undefined && trace === undefined && group === undefined;
    return isNothing ? undefined : new SqsAttributes(typed, envelope, group, trace);
  }

  /** The attribute of a header; undefined if it was a string, or if the header has changed. */
  attribute(name: string, text: string): TypedAttribute | undefined {
    const typed = this.typed.get(name);
    return typed?.text === text ? typed : undefined;
  }

  /** The system attributes of a message to a queue. */
  get system(): { readonly [TRACE]: MessageSystemAttributeValue } | undefined {
    return this.#trace === undefined ? undefined : { [TRACE]: { DataType: "String", StringValue: this.#trace } };
  }
}

/** Whether SQS takes it as a number: 38 digits at most, and between 10^-128 and 10^126. */
function isNumber(text: string): boolean {
  const [, whole, fraction = ""] = NUMBER.exec(text) ?? [];
  if (whole === undefined) return false;
  const digits = `${whole}${fraction}`.replace(/^0+/, "").replace(/0+$/, "");
  const size = Math.abs(Number(text));
  return digits === "" || (digits.length <= MAX_DIGITS && size >= 1e-128 && size < 1e126);
}

/** A typed attribute; undefined for a string, and for an invalid type or value. */
function typedAttribute(dataType: unknown, text: string): TypedAttribute | undefined {
  if (typeof dataType !== "string" || dataType === "String" || !DATA_TYPE.test(dataType) || text === "")
    return undefined;
  if (dataType.startsWith("Number") && !isNumber(text)) return undefined;
  if (dataType.startsWith("Binary") && (text.length % 4 !== 0 || !BASE64_TEXT.test(text))) return undefined;
  return { dataType, text };
}

/** As SQS takes it. */
function attributeValue({ dataType, text }: TypedAttribute): MessageAttributeValue {
  if (dataType.startsWith("Binary")) return { DataType: dataType, BinaryValue: Buffer.from(text, "base64") };
  return { DataType: dataType, StringValue: text };
}

/** The attribute for everything else: id, key, content type, the engine's headers, and headers that do not fit. */
const PACKED = "anybroker";
/** The attribute of the routing key, which filter policies use. */
export const ROUTING_KEY = "anybroker-routing-key";
/** SQS accepts ten attributes. With more, SNS drops the message on its way to a queue. */
const MAX_SEPARATE_HEADERS = 8;
const MAX_ATTRIBUTES = 10;
const ATTRIBUTE_NAME = /^(?!AWS\.|Amazon\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)$/i;
/** Characters that SQS refuses in a body or a value. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: SQS refuses these control characters.
const REFUSED = /[^\u0009\u000a\u000d\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;
/** Whether SQS accepts a text as it is. */
export function isAccepted(text: string): boolean {
  return !REFUSED.test(text);
}

const JSON_TYPE = "application/json";
/** SQS refuses an empty body. */
const EMPTY = "-";
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** A message in the form of SQS and SNS. */
export interface WireMessage {
  readonly body: string;
  readonly attributes: Record<string, MessageAttributeValue>;
  /** Counted as SQS does: the body, and the names, types and values of the attributes. */
  readonly bytes: number;
  /** On a copy of a foreign message: the system attributes for a queue, which do not count. */
  readonly system: Readonly<Record<string, MessageSystemAttributeValue>> | undefined;
  /** On a copy of a foreign message: the message group for a standard queue. */
  readonly group: string | undefined;
}

interface Packed {
  readonly id: string;
  readonly key?: string;
  /** Empty if the message has no content type. */
  readonly type?: string;
  /** The form of a body that SQS does not accept as text; `sns` means SNS's envelope. */
  readonly body?: "base64" | "empty" | "sns";
  readonly headers?: MessageHeaders;
  /** The data types of headers that were typed attributes of a foreign sender. */
  readonly types?: Readonly<Record<string, string>>;
  /** Sent to one subscription, not published. */
  readonly direct?: true;
}

/** What the message needs for its route. */
interface WireOptions {
  /** Milliseconds since 1970 before which no handler may get it, if the broker cannot delay it. */
  readonly dueAt?: number | undefined;
  /** Whether it goes to one subscription only, so that no filter applies; see {@link isDirect}. */
  readonly direct?: boolean;
}

/** Converts a message to the form of SQS and SNS. */
export function encodeMessage(message: OutgoingMessage, { dueAt, direct = false }: WireOptions = {}): WireMessage {
  const attributes: Record<string, MessageAttributeValue> = {};
  const packed: Record<string, string> = Object.create(null);
  const types: Record<string, string> = Object.create(null);
  const foreign = message.foreign instanceof SqsAttributes ? message.foreign : undefined;
  const envelope = foreign?.envelope?.body === message.body ? foreign?.envelope : undefined;
  // SQS refuses an empty value.
  const routingKey = message.routingKey === "" ? undefined : message.routingKey;
  const maxSeparate =
    foreign === undefined ? MAX_SEPARATE_HEADERS : MAX_ATTRIBUTES - (routingKey === undefined ? 1 : 2);
  let separate = 0;
  let packedCount = 0;
  for (const name of foreign === undefined ? Object.keys(message.headers) : typedFirst(message.headers, foreign)) {
    const value = message.headers[name] as string;
    if (envelope?.headers.get(name) === value) continue;
    const typed = foreign?.attribute(name, value);
    if (separate < maxSeparate && isSeparate(name, value)) {
      attributes[name] = typed === undefined ? { DataType: "String", StringValue: value } : attributeValue(typed);
      separate++;
    } else {
      packed[name] = value;
      packedCount++;
      if (typed !== undefined) types[name] = typed.dataType;
    }
  }
  if (dueAt !== undefined) {
    packed[HEADER.dueAt] = String(dueAt);
    packedCount++;
  }
  const { text, form } =
    envelope === undefined ? encodeBody(message.body) : ({ text: envelope.text, form: "sns" } as const);
  const own: Packed = {
    id: message.id,
    ...(message.key === undefined ? {} : { key: message.key }),
    ...(message.contentType === JSON_TYPE ? {} : { type: message.contentType ?? "" }),
    ...(form === undefined ? {} : { body: form }),
    ...(packedCount === 0 ? {} : { headers: packed }),
    ...(Object.keys(types).length === 0 ? {} : { types }),
    ...(direct ? { direct } : {}),
  };
  attributes[PACKED] = { DataType: "String", StringValue: escapeRefused(JSON.stringify(own)) };
  if (routingKey !== undefined) attributes[ROUTING_KEY] = { DataType: "String", StringValue: routingKey };
  const bytes = bytesOf(text, attributes);
  return { body: text, attributes, bytes, system: foreign?.system, group: foreign?.group };
}

/** Typed attributes first: other readers find them only as attributes, and strings also in `anybroker`. */
function typedFirst(headers: MessageHeaders, foreign: SqsAttributes): readonly string[] {
  const names = Object.keys(headers);
  const isTyped = (name: string): boolean => foreign.attribute(name, headers[name] as string) !== undefined;
  return [...names.filter(isTyped), ...names.filter((name) => !isTyped(name))];
}

function isSeparate(name: string, value: string): boolean {
  return (
    value !== "" &&
    name !== PACKED &&
    // As a key of an object, this name would set the prototype.
    name !== "__proto__" &&
    !name.startsWith(SYSTEM_PREFIX) &&
    ATTRIBUTE_NAME.test(name) &&
    isAccepted(value)
  );
}

function encodeBody(body: Uint8Array): { readonly text: string; readonly form: Packed["body"] } {
  if (body.length === 0) return { text: EMPTY, form: "empty" };
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (isUtf8(buffer)) {
    const text = buffer.toString();
    if (isAccepted(text)) return { text, form: undefined };
  }
  return { text: buffer.toString("base64"), form: "base64" };
}

/** Escapes characters that SQS refuses; in JSON they occur only within strings. */
function escapeRefused(json: string): string {
  if (isAccepted(json)) return json;
  const written = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return json.replaceAll(new RegExp(REFUSED, "gu"), written);
}

function bytesOf(body: string, attributes: Record<string, MessageAttributeValue>): number {
  let bytes = Buffer.byteLength(body);
  for (const name in attributes) {
    const { DataType = "", StringValue = "", BinaryValue } = attributes[name] ?? {};
    bytes += Buffer.byteLength(name) + DataType.length + (BinaryValue?.length ?? Buffer.byteLength(StringValue));
  }
  return bytes;
}

const PLAIN = /^[A-Za-z0-9!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]{1,128}$/;

/** The message group of an ordered message: its key, or a digest if SQS would refuse the key. */
export function messageGroup(message: OutgoingMessage): string {
  return plain(message.key ?? message.id);
}

/**
 * The deduplication id, by which SQS drops a second message within five minutes: the id, and for a copy also the
 * engine's headers, so that a retry or replay is not dropped as its original.
 */
export function deduplicationId(message: OutgoingMessage): string {
  let copy = "";
  for (const name in message.headers) {
    if (name.startsWith(SYSTEM_PREFIX) && !SENT_WITH.includes(name)) copy += `${name}=${message.headers[name]}\n`;
  }
  return copy === "" ? plain(message.id) : digest(`${message.id}\n${copy}`);
}

const SENT_WITH: readonly string[] = [HEADER.publishedAt, HEADER.expiresAt, HEADER.dueAt];

function plain(text: string): string {
  return PLAIN.test(text) ? text : digest(text);
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/**
 * Converts a message of anybroker, of another sender to SQS, or of SNS without raw delivery. Never throws: what it
 * cannot parse becomes a plain body.
 */
export function decodeMessage(message: Message): Omit<IncomingMessage<Message>, "token"> {
  const common = { redeliveries: Math.max(receivesOf(message) - 1, 0), native: message };
  try {
    return { ...common, ...contentOf(message) };
  } catch {
    return { ...common, ...plainContentOf(message) };
  }
}

/** How often SQS has delivered it, including this time. */
export function receivesOf({ Attributes }: Message): number {
  const receives = Number(plainText(Attributes?.ApproximateReceiveCount) ?? 1);
  return Number.isSafeInteger(receives) ? receives : 1;
}

/** SQS's id of a message; without one, an id derived from the content. */
function idOf({ MessageId = "", Body = "" }: Message): string {
  return MessageId === "" ? `${DERIVED_ID}${digest(Body).slice(0, 40)}` : MessageId;
}

/** An attribute of SQS, if it is a string: the answer may not be from SQS. */
function systemText(system: Message["Attributes"], name: keyof NonNullable<Message["Attributes"]>): string | undefined {
  const value: unknown = system?.[name];
  return typeof value === "string" ? value : undefined;
}

type Content = Omit<IncomingMessage<Message>, "token" | "redeliveries" | "native">;

function plainContentOf(message: Message): Content {
  const { Body = "", Attributes } = message;
  return {
    id: idOf(message),
    key: systemText(Attributes, "MessageGroupId"),
    routingKey: undefined,
    headers: Object.create(null),
    body: Buffer.from(Body),
    contentType: undefined,
  };
}

function contentOf(message: Message): Content {
  const text = message.Body ?? "";
  const given = attributesOf(message);
  const own = readPacked(given.get(PACKED)?.text);
  const isWrapped = !given.has(PACKED) || own?.body === "sns";
  const envelope = isWrapped ? envelopeOf(text) : undefined;
  const attributes = envelope === undefined ? given : new Map([...envelope.attributes, ...given]);
  const packed = own ?? readPacked(attributes.get(PACKED)?.text);
  const headers: Record<string, string> = Object.create(null);
  const typed = new Map<string, TypedAttribute>();
  const add = (name: string, value: string, dataType: unknown): void => {
    headers[name] = value;
    const attribute = typedAttribute(dataType, value);
    if (attribute !== undefined) typed.set(name, attribute);
  };
  for (const [name, { text: value, dataType }] of attributes) {
    if (name !== PACKED && name !== ROUTING_KEY) add(name, value, dataType);
  }
  for (const name of Object.keys(packed?.headers ?? {})) {
    add(name, packed?.headers?.[name] as string, packed?.types?.[name]);
  }
  const { Attributes } = message;
  const body = decodeBody(envelope?.body ?? text, packed?.body);
  // An envelope of anybroker's own message needs no copy: the attributes say everything.
  const isForeign = envelope !== undefined && !envelope.attributes.has(PACKED);
  const foreign = SqsAttributes.of(typed, isForeign ? foreignEnvelope(text, body, envelope) : undefined, Attributes);
  const type = packed === undefined ? "" : (packed.type ?? JSON_TYPE);
  return {
    id: packed?.id || envelope?.id || idOf(message),
    key: packed === undefined ? systemText(Attributes, "MessageGroupId") : packed.key,
    routingKey: routingKeyOf(attributes),
    headers,
    body,
    contentType: type === "" ? undefined : type,
    sentAt: sentAt(Attributes?.SentTimestamp),
    ...(foreign === undefined ? undefined : { foreign }),
  };
}

/** SQS keeps no other routing keys in attributes, but a sender may write any text into an envelope. */
function routingKeyOf(attributes: ReadonlyMap<string, Attribute>): string | undefined {
  const { text } = attributes.get(ROUTING_KEY) ?? {};
  return text === undefined || text === "" || !isAccepted(text) ? undefined : text;
}

function foreignEnvelope(text: string, body: Uint8Array, { attributes }: Envelope): ForeignEnvelope {
  return { text, body, headers: new Map([...attributes].map(([name, value]) => [name, value.text])) };
}

const MILLISECONDS = /^\d{1,15}$/;

function sentAt(milliseconds: unknown): number | undefined {
  return typeof milliseconds === "string" && MILLISECONDS.test(milliseconds) ? Number(milliseconds) : undefined;
}

/** Whether a message was sent to one subscription, as retries and replays are, and not by its topic. */
export function isDirect({ MessageAttributes }: Message): boolean {
  const packed = MessageAttributes?.[PACKED]?.StringValue;
  const value = packed === undefined ? undefined : parse(packed);
  return isRecord(value) && value.direct === true;
}

/** Decodes a body. If it is not in the stated form, another program wrote it, and it is taken as it is. */
function decodeBody(text: string, form: Packed["body"]): Uint8Array {
  if (form === "empty" && text === EMPTY) return new Uint8Array();
  const isBase64 = form === "base64" && text.length % 4 === 0 && BASE64.test(text);
  return Buffer.from(text, isBase64 ? "base64" : "utf8");
}

/** An attribute as text; `dataType` is unchecked. */
interface Attribute {
  readonly text: string;
  readonly dataType: unknown;
}

function attributesOf({ MessageAttributes = {} }: Message): Map<string, Attribute> {
  const attributes = new Map<string, Attribute>();
  for (const name of Object.keys(MessageAttributes)) {
    const { StringValue, BinaryValue, DataType } = MessageAttributes[name] ?? {};
    const text = plainText(StringValue) ?? Buffer.from(BinaryValue ?? []).toString("base64");
    attributes.set(name, { text, dataType: DataType });
  }
  return attributes;
}

function readPacked(json: string | undefined): Packed | undefined {
  const value = json === undefined ? undefined : parse(json);
  if (!isRecord(value) || typeof value.id !== "string") return undefined;
  const { id, key, type, body } = value;
  return {
    id,
    headers: plainTexts(value.headers),
    types: plainTexts(value.types),
    ...(typeof key === "string" ? { key } : {}),
    ...(typeof type === "string" ? { type } : {}),
    ...(body === "base64" || body === "empty" || body === "sns" ? { body } : {}),
  };
}

function plainTexts(given: unknown): Record<string, string> {
  const texts: Record<string, string> = Object.create(null);
  for (const name of isRecord(given) ? Object.keys(given) : []) {
    const text = plainText((given as Record<string, unknown>)[name]);
    if (text !== undefined) texts[name] = text;
  }
  return texts;
}

interface Envelope {
  readonly id: string;
  readonly body: string;
  readonly attributes: ReadonlyMap<string, Attribute>;
}

/** Parses SNS's envelope, which it uses without raw delivery. */
function envelopeOf(text: string): Envelope | undefined {
  if (!text.startsWith("{") || !text.includes('"TopicArn"')) return undefined;
  const value = parse(text);
  if (!isRecord(value) || value.Type !== "Notification" || typeof value.TopicArn !== "string") return undefined;
  if (typeof value.Message !== "string" || typeof value.MessageId !== "string") return undefined;
  const attributes = new Map<string, Attribute>();
  const given = isRecord(value.MessageAttributes) ? value.MessageAttributes : {};
  for (const name of Object.keys(given)) {
    const attribute = given[name];
    const text = isRecord(attribute) ? plainText(attribute.Value) : undefined;
    if (text !== undefined && isRecord(attribute)) attributes.set(name, { text, dataType: attribute.Type });
  }
  return { id: value.MessageId, body: value.Message, attributes };
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** The text of a header. Lists and objects have none. */
function plainText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
