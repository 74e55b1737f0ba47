import type { MessageAttributeValue, MessageSystemAttributeValue } from "@aws-sdk/client-sqs";
import type { ForeignProperties } from "../../core/adapter.ts";

const DATA_TYPE = /^(?:String|Number|Binary)(?:\.[\w.-]{1,240})?$/;
const NUMBER = /^-?\d{1,38}(?:\.\d{1,38})?(?:[eE][+-]?\d{1,3})?$/;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
const TRACE = "AWSTraceHeader";

/** A message attribute that is more than a text, and the text that handlers find in its place. */
export interface TypedAttribute {
  readonly dataType: string;
  readonly text: string;
}

/** An event of another sender in the envelope that SNS wrapped it in. */
export interface ForeignEnvelope {
  readonly text: string;
  /** The event's own body: only with that very one the envelope is of use. */
  readonly body: Uint8Array;
  readonly headers: ReadonlyMap<string, string>;
}

/** What another sender's message has beside what anybroker reads of it. */
export class SqsAttributes implements ForeignProperties {
  readonly typed: ReadonlyMap<string, TypedAttribute>;
  readonly envelope: ForeignEnvelope | undefined;
  readonly bytes: number;
  /** The message group of a standard queue, by which SQS is fair to tenants. */
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

  /** Undefined where there is nothing, as with anybroker's own messages. `system` are the attributes of SQS. */
  static of(
    typed: ReadonlyMap<string, TypedAttribute>,
    envelope: ForeignEnvelope | undefined,
    system: Readonly<Partial<Record<string, string>>> | undefined,
  ): SqsAttributes | undefined {
    const trace = system?.[TRACE];
    const group = system?.SequenceNumber === undefined ? system?.MessageGroupId : undefined;
    const isNothing = typed.size === 0 && envelope === undefined && trace === undefined && group === undefined;
    return isNothing ? undefined : new SqsAttributes(typed, envelope, group, trace);
  }

  /** The attribute that a header was made of; undefined where it was a text, or is not the same any more. */
  attribute(name: string, text: string): TypedAttribute | undefined {
    const typed = this.typed.get(name);
    return typed?.text === text ? typed : undefined;
  }

  /** What a queue takes beside the attributes of a message. */
  get system(): { readonly [TRACE]: MessageSystemAttributeValue } | undefined {
    return this.#trace === undefined ? undefined : { [TRACE]: { DataType: "String", StringValue: this.#trace } };
  }
}

/** The attribute of a data type and the text that stands for its value; undefined where it is a mere text, or is none. */
export function typedAttribute(dataType: unknown, text: string): TypedAttribute | undefined {
  if (typeof dataType !== "string" || dataType === "String" || !DATA_TYPE.test(dataType) || text === "")
    return undefined;
  if (dataType.startsWith("Number") && !NUMBER.test(text)) return undefined;
  if (dataType.startsWith("Binary") && (text.length % 4 !== 0 || !BASE64.test(text))) return undefined;
  return { dataType, text };
}

/** As SQS takes it. */
export function attributeValue({ dataType, text }: TypedAttribute): MessageAttributeValue {
  if (dataType.startsWith("Binary")) return { DataType: dataType, BinaryValue: Buffer.from(text, "base64") };
  return { DataType: dataType, StringValue: text };
}
