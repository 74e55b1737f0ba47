import { connect } from "amqplib";

const [METHOD, HEADER, BODY, END] = [1, 2, 3, 0xce];
const BASIC = 60;
const PUBLISH = 40;
const [HAS_CONTENT_TYPE, HAS_HEADERS] = [0x8000, 0x2000];

/** A message of a client with other limits than amqplib, which encodes no more than 64 KiB of headers. */
export interface ForeignMessage {
  /** Texts, or values with their type as they are on the wire. */
  readonly headers: Readonly<Record<string, string | Buffer>>;
  readonly body: string;
}

/** Publishes to a queue in frames of its own making. Resolves once all of them are on the queue, unless it has consumers. */
export async function sendForeign(
  url: string,
  queue: string,
  messages: readonly ForeignMessage[],
  { waits = true } = {},
): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  const { messageCount } = await channel.checkQueue(queue);
  const { stream } = (channel as unknown as { connection: { stream: NodeJS.WritableStream } }).connection;
  const number = (channel as unknown as { ch: number }).ch;
  for (const { headers, body } of messages) {
    const bytes = Buffer.from(body);
    const method = Buffer.concat([uint16(BASIC), uint16(PUBLISH), uint16(0), short(""), short(queue), Buffer.of(0)]);
    const size = Buffer.alloc(8);
    size.writeBigUInt64BE(BigInt(bytes.length));
    const flags = uint16(HAS_CONTENT_TYPE | HAS_HEADERS);
    const properties = [uint16(BASIC), uint16(0), size, flags, short("application/json"), table(headers)];
    stream.write(frame(METHOD, number, method));
    stream.write(frame(HEADER, number, Buffer.concat(properties)));
    stream.write(frame(BODY, number, bytes));
  }
  while (waits && (await channel.checkQueue(queue)).messageCount < messageCount + messages.length);
  await connection.close();
}

function frame(kind: number, channel: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.of(kind), uint16(channel), uint32(payload.length), payload, Buffer.of(END)]);
}

function table(headers: ForeignMessage["headers"]): Buffer {
  const fields = Object.entries(headers).flatMap(([name, value]) =>
    typeof value === "string" ? [short(name), Buffer.from("S"), long(value)] : [short(name), value],
  );
  const all = Buffer.concat(fields);
  return Buffer.concat([uint32(all.length), all]);
}

function short(text: string): Buffer {
  return Buffer.concat([Buffer.of(Buffer.byteLength(text)), Buffer.from(text)]);
}

function long(text: string): Buffer {
  return Buffer.concat([uint32(Buffer.byteLength(text)), Buffer.from(text)]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
