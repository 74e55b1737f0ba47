import { connect as connectPlain, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectEncrypted } from "node:tls";

/** Where and as whom to ask. */
export interface RefusedPlace {
  readonly host: string;
  readonly port: number;
  readonly tls: ConnectionOptions | undefined;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
}

/** The server closed a connection while it was being opened, and said why. */
export class ServerRefusal extends Error {
  override readonly name = "ServerRefusal";
  /** AMQP's reply code. */
  readonly code: number;

  constructor(code: number, text: string) {
    super(text);
    this.code = code;
  }
}

const METHOD = 1;
const END = 0xce;
const FRAME_OVERHEAD = 8;
const MOST_BYTES = 1024 * 1024;
const START = "10.10";
const TUNE = "10.30";
const CLOSE = "10.50";

/** Whether amqplib left out what the server said when it refused the virtual host. */
export function isUnexplained(error: unknown): boolean {
  return error instanceof Error && /^Expected ConnectionOpenOk; got <ConnectionClose/.test(error.message);
}

/**
 * Asks once more why the server does not open a connection, for amqplib throws its answer away: shakes hands up to the
 * virtual host, and reads the reason of the close. Undefined if there is none after all, or no answer within `ms`.
 */
export function refusalReason(place: RefusedPlace, ms: number): Promise<ServerRefusal | undefined> {
  const { promise, resolve } = Promise.withResolvers<ServerRefusal | undefined>();
  const { host, port, tls } = place;
  const socket: Socket =
    tls === undefined
      ? connectPlain({ host, port })
      : connectEncrypted({ ...(isIP(host) === 0 ? { servername: host } : {}), ...tls, host, port });
  const end = (reason?: ServerRefusal): void => {
    clearTimeout(timer);
    socket.destroy();
    resolve(reason);
  };
  const timer = setTimeout(end, ms);
  let seen = Buffer.alloc(0);
  const read = (): void => {
    for (let frame = nextFrame(seen); frame !== undefined; frame = nextFrame(seen)) {
      seen = seen.subarray(frame.length + FRAME_OVERHEAD);
      const method = `${frame.readUInt16BE(0)}.${frame.readUInt16BE(2)}`;
      if (method === START) socket.write(methodFrame(startOk(place)));
      else if (method === TUNE) socket.write(Buffer.concat([methodFrame(tuneOk(frame)), methodFrame(open(place))]));
      else {
        end(method === CLOSE ? reasonOf(frame) : undefined);
        return;
      }
    }
  };
  socket.on("error", () => end());
  socket.on("close", () => end());
  socket.on(tls === undefined ? "connect" : "secureConnect", () =>
    socket.write(Buffer.from("AMQP\0\0\x09\x01", "latin1")),
  );
  socket.on("data", (data) => {
    seen = Buffer.concat([seen, data]);
    try {
      if (seen.length > MOST_BYTES) end();
      else read();
    } catch {
      // Whatever answers is no RabbitMQ.
      end();
    }
  });
  return promise;
}

/** The payload of the first frame, once it is there. */
function nextFrame(seen: Buffer): Buffer | undefined {
  if (seen.length < FRAME_OVERHEAD) return undefined;
  const length = seen.readUInt32BE(3);
  return seen.length < length + FRAME_OVERHEAD ? undefined : seen.subarray(7, 7 + length);
}

function reasonOf(close: Buffer): ServerRefusal {
  const length = close.readUInt8(6);
  return new ServerRefusal(close.readUInt16BE(4), close.toString("utf8", 7, 7 + length));
}

function startOk({ username, password }: RefusedPlace): Buffer {
  const noProperties = uint32(0);
  return Buffer.concat([ids(10, 11), noProperties, short("PLAIN"), long(`\0${username}\0${password}`), short("en_US")]);
}

/** What the server asks for: the most channels, the longest frame, and heartbeats. */
function tuneOk(tune: Buffer): Buffer {
  return Buffer.concat([ids(10, 31), tune.subarray(4, 12)]);
}

function open({ vhost }: RefusedPlace): Buffer {
  return Buffer.concat([ids(10, 40), short(vhost), short(""), Buffer.of(0)]);
}

function methodFrame(payload: Buffer): Buffer {
  return Buffer.concat([Buffer.of(METHOD, 0, 0), uint32(payload.length), payload, Buffer.of(END)]);
}

function ids(group: number, method: number): Buffer {
  return Buffer.of(0, group, 0, method);
}

function short(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function long(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
