import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import Encoder from "kafkajs/src/protocol/encoder.js";
import { onTestFinished } from "vitest";

/** A request as it came. */
export interface Asked {
  readonly key: number;
  readonly version: number;
  readonly body: Buffer;
}

/** What follows on a request: an answer, bytes instead of one, an end of the connection, or nothing ever. */
export type Reply = ((to: Encoder) => unknown) | { readonly bytes: Uint8Array } | "close" | "nothing";

export interface ScriptedBroker {
  readonly port: number;
  readonly asked: readonly Asked[];
}

export const API = {
  produce: 0,
  fetch: 1,
  metadata: 3,
  coordinator: 10,
  joinGroup: 11,
  heartbeat: 12,
  leaveGroup: 13,
  syncGroup: 14,
  describeGroups: 15,
  saslHandshake: 17,
  apiVersions: 18,
  saslAuthenticate: 36,
};

/** A script for a broker; what it says nothing about is answered as a broker would. */
export type Script = (asked: Asked) => Reply | undefined;

/** A broker, node 1 of its cluster, that answers by a script; it ends with the test. */
export async function scriptedBroker(
  script: Script,
  { host = "127.0.0.1", tls }: { readonly host?: string; readonly tls?: TlsOptions } = {},
): Promise<ScriptedBroker> {
  const asked: Asked[] = [];
  const sockets = new Set<Socket>();
  const serve = (socket: Socket): void => {
    sockets.add(socket);
    let bytes = Buffer.alloc(0);
    // Whoever is tested may end it in any way.
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readInt32BE(0)) {
        const frame = bytes.subarray(4, 4 + bytes.readInt32BE(0));
        bytes = bytes.subarray(4 + frame.length);
        answer(socket, frame);
      }
    });
  };
  const answer = (socket: Socket, frame: Buffer): void => {
    const [key, version, correlation] = [frame.readInt16BE(0), frame.readInt16BE(2), frame.subarray(4, 8)];
    const header = 10 + Math.max(0, frame.readInt16BE(8));
    const request = { key, version, body: frame.subarray(header) };
    asked.push(request);
    const reply = script(request) ?? usual(key);
    if (reply === "nothing") return;
    if (reply === "close") {
      socket.destroy();
      return;
    }
    if ("bytes" in reply) {
      socket.write(reply.bytes);
      return;
    }
    const to = new Encoder();
    reply(to);
    const size = Buffer.alloc(4);
    size.writeInt32BE(4 + to.buffer.length);
    socket.write(Buffer.concat([size, correlation, to.buffer]));
  };
  const usual = (key: number): Reply => {
    if (key === API.apiVersions) return versions();
    if (key === API.metadata) return (to) => cluster(to, host, (server.address() as AddressInfo).port);
    return "nothing";
  };
  const server: Server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, asked };
}

/** The answer of a server that speaks every version up to 10, of fetches 13, or of some requests others. */
export function versions(others: Readonly<Record<number, readonly [least: number, most: number]>> = {}): Reply {
  return (to) => {
    to.writeInt16(0).writeInt32(51);
    for (let key = 0; key < 51; key++) {
      const [least, most] = others[key] ?? [0, key === 1 ? 13 : 10];
      to.writeInt16(key).writeInt16(least).writeInt16(most);
    }
    to.writeInt32(0);
  };
}

/** Metadata of one broker, and topics without partitions. */
export function cluster(to: Encoder, host: string, port: number, topics: readonly string[] = []): void {
  const [one, none] = [2, 1];
  to.writeUVarInt(0).writeInt32(0).writeUVarInt(one).writeInt32(1).writeUVarIntString(host).writeInt32(port);
  to.writeUVarIntString(null)
    .writeUVarInt(0)
    .writeUVarIntString("cluster")
    .writeInt32(1)
    .writeUVarInt(topics.length + 1);
  for (const topic of topics) {
    to.writeInt16(0).writeUVarIntString(topic).writeBuffer(Buffer.alloc(16, 1)).writeBoolean(false);
    to.writeUVarInt(none).writeInt32(0).writeUVarInt(0);
  }
}
