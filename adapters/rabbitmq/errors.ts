import { connect as connectPlain, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectEncrypted } from "node:tls";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { type Place, placeText, type Settings } from "./options.ts";

/** The server and the login to ask with. */
interface RefusedPlace {
  readonly host: string;
  readonly port: number;
  readonly tls: ConnectionOptions | undefined;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
}

/** The server closed a connection while it was being opened, and gave a reason. */
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
const MAX_BYTES = 1024 * 1024;
const START = "10.10";
const TUNE = "10.30";
const CLOSE = "10.50";

/** Whether amqplib dropped the server's reason for refusing the virtual host. */
export function isUnexplained(error: unknown): boolean {
  return error instanceof Error && /^Expected ConnectionOpenOk; got <ConnectionClose/.test(error.message);
}

/**
 * Asks the server again why it does not open a connection, because amqplib drops the answer. It does the handshake up
 * to the virtual host and reads the reason of the close. Undefined if there is no reason, or no answer within `ms`.
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
  let received = Buffer.alloc(0);
  const read = (): void => {
    for (let frame = nextFrame(received); frame !== undefined; frame = nextFrame(received)) {
      received = received.subarray(frame.length + FRAME_OVERHEAD);
      const method = `${frame.readUInt16BE(0)}.${frame.readUInt16BE(2)}`;
      if (method === START) socket.write(methodFrame(startOk(place)));
      else if (method === TUNE) socket.write(Buffer.concat([methodFrame(tuneOk(frame)), methodFrame(open(place))]));
      else {
        end(method === CLOSE ? closeReason(frame) : undefined);
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
    received = Buffer.concat([received, data]);
    try {
      if (received.length > MAX_BYTES) end();
      else read();
    } catch {
      // The peer is not RabbitMQ.
      end();
    }
  });
  return promise;
}

/** The payload of the first frame; undefined while it is incomplete. */
function nextFrame(received: Buffer): Buffer | undefined {
  if (received.length < FRAME_OVERHEAD) return undefined;
  const length = received.readUInt32BE(3);
  return received.length < length + FRAME_OVERHEAD ? undefined : received.subarray(7, 7 + length);
}

function closeReason(close: Buffer): ServerRefusal {
  const length = close.readUInt8(6);
  return new ServerRefusal(close.readUInt16BE(4), close.toString("utf8", 7, 7 + length));
}

function startOk({ username, password }: RefusedPlace): Buffer {
  const noProperties = uint32(0);
  return Buffer.concat([ids(10, 11), noProperties, short("PLAIN"), long(`\0${username}\0${password}`), short("en_US")]);
}

/** Accepts the server's limits: channels, frame size, heartbeat. */
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

/** AMQP reply codes of a closed channel. */
export const ACCESS_REFUSED = 403;
export const NOT_FOUND = 404;
export const RESOURCE_LOCKED = 405;
export const PRECONDITION_FAILED = 406;

/** The AMQP reply code of an error from amqplib, or undefined. */
export function replyCode(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}

/** The server's text in an error of amqplib, such as `inequivalent arg 'x-max-priority' for queue 'orders' …`. */
export function replyText(error: unknown): string {
  const message = thrownText(error);
  return /with message "(?:[A-Z_]+ - )?(.*)"$/s.exec(message)?.[1] ?? message;
}

/** The error for a connection that could not be opened. It never contains the password. */
export function connectError(error: unknown, to: Place, settings: Settings): MessagingError {
  if (isMessagingError(error) && error.code !== "timeout") return error;
  const place = `RabbitMQ at ${placeText(to)}`;
  const text = thrownText(error).replace(/^RabbitMQ did not answer (within \d+ ms) to: .*$/s, "it did not answer $1");
  if (/vhost \S+ not found/.test(text)) {
    return new MessagingError(
      "not-found",
      `${place} has no virtual host "${settings.vhost}"; create it, or use another one`,
      {
        cause: error,
      },
    );
  }
  if (/limit .*is reached/.test(text)) {
    return new MessagingError(
      "unreachable",
      `${place} accepts no more connections (${text}); close some, or raise the limit`,
      { cause: error },
    );
  }
  if (/access to vhost/.test(text)) {
    return new MessagingError(
      "unauthorized",
      `${place} refuses user "${settings.username}" access to the virtual host "${settings.vhost}"; grant permissions there`,
      { cause: error },
    );
  }
  if (error instanceof ServerRefusal) {
    return new MessagingError(
      "unreachable",
      `${place} does not open the virtual host "${settings.vhost}" (${error.code} ${text}); see the server's log`,
      { cause: error },
    );
  }
  if (isUnexplained(error)) {
    return new MessagingError(
      "unreachable",
      `${place} does not open the virtual host "${settings.vhost}" and gave no reason; check that it exists and runs, that user "${settings.username}" has permissions there, and the server's log`,
      { cause: error },
    );
  }
  if (/ACCESS[_-]REFUSED|\b403\b/.test(text)) {
    return new MessagingError(
      "unauthorized",
      `${place} refused the login of user "${settings.username}"; check username and password; guest may log in from the server's machine only`,
      { cause: error },
    );
  }
  const reason = isMessagingError(error) ? text : ((error as { code?: unknown } | null)?.code ?? text);
  return new MessagingError(
    "unreachable",
    `${place} cannot be reached (${String(reason)}); check host, port and TLS, and that the server runs`,
    { cause: error },
  );
}

/** The error if none of several hosts could be reached. */
export function noneReached(
  failures: readonly { readonly place: Place; readonly error: MessagingError }[],
): MessagingError {
  const [first, ...others] = failures;
  if (first === undefined || others.length === 0) {
    return first?.error ?? new MessagingError("unreachable", "RabbitMQ cannot be reached: there is no host to try");
  }
  const texts = failures.map(({ place, error }) => `${placeText(place)} (${reasonOf(error)})`);
  // A refusal by a server explains more than an unreachable host.
  const telling = failures.find(({ error }) => error.cause instanceof ServerRefusal) ?? first;
  return new MessagingError(
    "unreachable",
    `none of the ${failures.length} hosts of RabbitMQ can be used: ${texts.join(", ")}; check hosts, port and TLS, and that the servers run`,
    { cause: telling.error.cause },
  );
}

function reasonOf({ cause, message }: MessagingError): string {
  const code = (cause as { readonly code?: unknown } | null | undefined)?.code;
  if (typeof code === "string" && !isMessagingError(cause)) return code;
  return cause === undefined ? message : replyText(cause);
}

/** The error for a lost connection. */
export function lostError(cause: unknown, place: Place): MessagingError {
  const reason = cause === undefined ? "closed" : replyText(cause);
  return new MessagingError(
    "unreachable",
    `the connection to RabbitMQ at ${placeText(place)} is lost (${reason}); reconnecting`,
    { cause },
  );
}

/** Whether a connection broke because amqplib could not read a frame, and not because of the network or the server. */
export function isUnreadable(cause: unknown): boolean {
  return (
    cause instanceof Error &&
    (cause.name === "RangeError" || /^(Unexpected type tag|Invalid frame|Frame size)/.test(cause.message))
  );
}

/** The error of a channel operation. `what` completes "RabbitMQ refused to …"; `next` is the advice for a refusal. */
export function operationError(error: unknown, what: string, next: string): MessagingError {
  if (isMessagingError(error)) return error;
  const text = replyText(error);
  switch (replyCode(error)) {
    case NOT_FOUND:
      return new MessagingError("not-found", `RabbitMQ could not ${what}: ${text}; ${next}`, { cause: error });
    case ACCESS_REFUSED: {
      // From 4.0 on, an existence check needs any one permission; the text of the server may name another.
      return new MessagingError(
        "unauthorized",
        `RabbitMQ refused to ${what}: ${text}; grant the user ${rightTo(what)}`,
        {
          cause: error,
        },
      );
    }
    case RESOURCE_LOCKED:
    case PRECONDITION_FAILED:
      return new MessagingError("conflict", `RabbitMQ refused to ${what}: ${text}; ${next}`, { cause: error });
    default:
      return new MessagingError("unreachable", `RabbitMQ could not ${what} (${text})`, { cause: error });
  }
}

function rightTo(what: string): string {
  if (/^(look for|count) /.test(what)) return "any permission on it (write gives least away)";
  if (/^(consume|read) /.test(what)) return "the read permission on it";
  return what.startsWith("write ") ? "the write permission on it" : "that permission";
}

/** The channel of a consumer is closed. */
export function closedError(queue: string, cause: unknown): MessagingError {
  const reason = cause === undefined ? "the connection is lost" : replyText(cause);
  return new MessagingError(
    "unreachable",
    `the consumer of queue "${queue}" lost its channel: ${reason}; subscribing again`,
    {
      cause,
    },
  );
}

/** A delivery was not renewed. */
export function notBackError(queue: string): MessagingError {
  return new MessagingError(
    "timeout",
    `a delivery of queue "${queue}" was requeued before RabbitMQ's consumer timeout and did not come back; it expired, was dead-lettered, or went to another consumer`,
  );
}

/** Too much is held back in memory. */
export function tooMuchError(queue: string): MessagingError {
  return new MessagingError(
    "overloaded",
    `the messages of the ordered queue "${queue}" are so large that its consumer restarts with fewer of them in memory`,
  );
}

/**
 * Whether a consumer got more than a server that honours its prefetch delivers. Twice the prefetch is allowed: when its
 * node is away, a quorum queue requeues a consumer's deliveries, and when the node is back it delivers as many again.
 */
export function isOverPrefetch(unsettled: number, prefetch: number): boolean {
  return unsettled > 2 * prefetch;
}

/** The server does not honour the prefetch. */
export function overPrefetchError(queue: string, prefetch: number): MessagingError {
  return new MessagingError(
    "conflict",
    `queue "${queue}" delivered more than twice the prefetch of ${prefetch} to a consumer: its server does not honour basic.qos and would fill the memory, so the channel was closed, which requeues the deliveries. Check that RabbitMQ itself answers there, and no proxy or other server`,
  );
}

/** The server cancelled a consumer. */
export function cancelledError(queue: string): MessagingError {
  return new MessagingError(
    "not-found",
    `RabbitMQ cancelled the consumer of queue "${queue}": the queue was deleted or moved, or a delivery was held longer than the server's consumer timeout; subscribing again`,
  );
}
