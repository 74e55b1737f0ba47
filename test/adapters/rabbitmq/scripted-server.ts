import { createRequire } from "node:module";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";

/** amqplib's own encoder, which it does not export, speaks for the server. */
interface Definitions {
  readonly [method: string]: number;
}
interface Codec {
  encodeMethod(id: number, channel: number, fields: object): Buffer;
  decode(id: number, bytes: Buffer): Readonly<Record<string, unknown>>;
  info(id: number): { readonly name: string };
}

const require = createRequire(import.meta.url);
const definitions = require(join(dirname(require.resolve("amqplib")), "lib/defs.js")) as Definitions & Codec;

/** Says a method of AMQP, by amqplib's name for it, a heartbeat, or as `Raw` the `bytes` as they are. */
export type Say = (method: string, channel: number, fields?: object) => void;

/** Answers a method in the server's own way; true if it did. `password` is the one that the client logged in with. */
export type Script = (method: string, channel: number, say: Say, password: string) => boolean;

const ANSWERS: Readonly<Record<string, readonly [answer: string, fields?: object]>> = {
  ConnectionStartOk: ["ConnectionTune", { channelMax: 100, frameMax: 131_072, heartbeat: 0 }],
  ConnectionOpen: ["ConnectionOpenOk", { knownHosts: "" }],
  ConnectionClose: ["ConnectionCloseOk"],
  ChannelOpen: ["ChannelOpenOk", { channelId: Buffer.alloc(0) }],
  ChannelClose: ["ChannelCloseOk"],
  ConfirmSelect: ["ConfirmSelectOk"],
  ExchangeDeclare: ["ExchangeDeclareOk"],
  ExchangeBind: ["ExchangeBindOk"],
  QueueDeclare: ["QueueDeclareOk", { queue: "q", messageCount: 0, consumerCount: 0 }],
  QueueBind: ["QueueBindOk"],
  BasicQos: ["BasicQosOk"],
  BasicConsume: ["BasicConsumeOk", { consumerTag: "one" }],
  BasicCancel: ["BasicCancelOk", { consumerTag: "one" }],
};

const HEARTBEAT = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]);

/** A table of headers, its values as they are on the wire. */
export function table(entries: Readonly<Record<string, Buffer>>): Buffer {
  return Buffer.concat(Object.entries(entries).map(([name, value]) => Buffer.concat([short(name), value])));
}

/** A value of headers: its type, and its bytes with their size before them where the type has one. */
export function value(tag: string, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(tag), ...("SxFA".includes(tag) ? [uint32(bytes.length)] : []), bytes]);
}

/** Tables in tables. */
export function nested(depth: number): Buffer {
  const parts: Buffer[] = [];
  let size = 0;
  for (let level = 0; level < depth; level++) {
    // From the inside: each is a table with one entry, without a name.
    const part = Buffer.concat([
      Buffer.from("F"),
      uint32(level === 0 ? 0 : size + 1),
      ...(level === 0 ? [] : [Buffer.of(0)]),
    ]);
    parts.unshift(part);
    size += part.length;
  }
  return Buffer.concat(parts);
}

/** The frames of a delivery, with its headers as they are on the wire. */
export function delivered(
  channel: number,
  {
    tag,
    id,
    headers,
    body,
  }: { readonly tag: number; readonly id: string; readonly headers: Buffer; readonly body: string },
): Buffer {
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(BigInt(Buffer.byteLength(body)));
  // Content type, headers and message id.
  const flags = Buffer.of(0xa0, 0x80);
  const content = Buffer.concat([short("application/json"), uint32(headers.length), headers, short(id)]);
  return Buffer.concat([
    definitions.encodeMethod(definitions.BasicDeliver ?? 0, channel, {
      consumerTag: "one",
      deliveryTag: tag,
      redelivered: false,
      exchange: "",
      routingKey: "q",
    }),
    frame(2, channel, Buffer.concat([Buffer.of(0, 60, 0, 0), size, flags, content])),
    frame(3, channel, Buffer.from(body)),
  ]);
}

function frame(kind: number, channel: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.of(kind, 0, channel), uint32(payload.length), payload, Buffer.of(0xce)]);
}

function short(text: string): Buffer {
  return Buffer.concat([Buffer.of(Buffer.byteLength(text)), Buffer.from(text)]);
}

function uint32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

/** A server that takes every login and everything else, but for what its script answers. */
export async function scriptedServer(script: Script, version = "4.3.0") {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    const say: Say = (method, channel, fields = {}) => {
      if (method === "Heartbeat") socket.write(HEARTBEAT);
      else if (method === "Raw") socket.write((fields as { bytes: Buffer }).bytes);
      else socket.write(definitions.encodeMethod(definitions[method] ?? 0, channel, fields));
    };
    let password = "";
    let seen = Buffer.alloc(0);
    let isStarted = false;
    socket.on("data", (data) => {
      seen = Buffer.concat([seen, data]);
      if (!isStarted && seen.length >= 8) {
        isStarted = true;
        seen = seen.subarray(8);
        say("ConnectionStart", 0, {
          serverProperties: { version, capabilities: { publisher_confirms: true, "connection.blocked": true } },
          mechanisms: Buffer.from("PLAIN"),
          locales: Buffer.from("en_US"),
        });
      }
      while (seen.length >= 8 && seen.length >= seen.readUInt32BE(3) + 8) {
        const [type, channel, length] = [seen.readUInt8(0), seen.readUInt16BE(1), seen.readUInt32BE(3)];
        const payload = seen.subarray(7, 7 + length);
        seen = seen.subarray(8 + length);
        if (type !== 1) continue;
        const id = payload.readUInt32BE(0);
        const method = definitions.info(id).name;
        if (method === "ConnectionStartOk") {
          const { response } = definitions.decode(id, payload.subarray(4));
          password = String(response).split("\0")[2] ?? "";
        }
        if (script(method, channel, say, password)) continue;
        const [answer, fields] = ANSWERS[method] ?? [];
        if (answer !== undefined) say(answer, channel, fields);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    close: async (): Promise<void> => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
