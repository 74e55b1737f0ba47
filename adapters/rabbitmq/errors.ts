import { connect as connectPlain, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectEncrypted } from "node:tls";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { type Place, placeText, type Settings } from "./options.ts";

/** Where and as whom to ask. */
interface RefusedPlace {
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

function closeReason(close: Buffer): ServerRefusal {
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

/** The server's own words of an error from amqplib, such as `inequivalent arg 'x-max-priority' for queue 'orders' …`. */
export function replyText(error: unknown): string {
  const message = thrownText(error);
  return /with message "(?:[A-Z_]+ - )?(.*)"$/s.exec(message)?.[1] ?? message;
}

/** Why no connection could be made. The password stands nowhere in it. */
export function connectError(error: unknown, to: Place, settings: Settings): MessagingError {
  if (isMessagingError(error) && error.code !== "timeout") return error;
  const place = `RabbitMQ at ${placeText(to)}`;
  const text = thrownText(error);
  if (/vhost \S+ not found/.test(text)) {
    return new MessagingError(
      "not-found",
      `${place} has no virtual host "${settings.vhost}"; create it, or name another`,
      {
        cause: error,
      },
    );
  }
  if (/limit .*is reached/.test(text)) {
    return new MessagingError(
      "unreachable",
      `${place} takes no more connections (${text}); close others, or have the limit raised`,
      { cause: error },
    );
  }
  if (/access to vhost/.test(text)) {
    return new MessagingError(
      "unauthorized",
      `${place} refuses user "${settings.username}" the virtual host "${settings.vhost}"; grant it permissions there`,
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
      `${place} does not open the virtual host "${settings.vhost}", and did not say why; see that it exists and runs, that user "${settings.username}" has permissions there, and the server's log`,
      { cause: error },
    );
  }
  if (/ACCESS[_-]REFUSED|\b403\b/.test(text)) {
    return new MessagingError(
      "unauthorized",
      `${place} refused the login of user "${settings.username}"; check username and password, and that a guest logs in from the server's own machine only`,
      { cause: error },
    );
  }
  const reason = isMessagingError(error) ? text : ((error as { code?: unknown } | null)?.code ?? text);
  return new MessagingError(
    "unreachable",
    `${place} cannot be reached (${String(reason)}); check host, port, TLS and that the server runs`,
    { cause: error },
  );
}

/** Why none of several hosts could be reached. */
export function noneReached(
  failures: readonly { readonly place: Place; readonly error: MessagingError }[],
): MessagingError {
  const [first, ...others] = failures;
  if (first === undefined || others.length === 0) {
    return first?.error ?? new MessagingError("unreachable", "RabbitMQ cannot be reached: there is no host to try");
  }
  const texts = failures.map(({ place, error }) => `${placeText(place)} (${reasonOf(error)})`);
  // What a server said tells more than that another is not there.
  const telling = failures.find(({ error }) => error.cause instanceof ServerRefusal) ?? first;
  return new MessagingError(
    "unreachable",
    `none of the ${failures.length} hosts of RabbitMQ can be used: ${texts.join(", ")}; check hosts, port, TLS and that the servers run`,
    { cause: telling.error.cause },
  );
}

function reasonOf({ cause, message }: MessagingError): string {
  const code = (cause as { readonly code?: unknown } | null | undefined)?.code;
  if (typeof code === "string" && !isMessagingError(cause)) return code;
  return cause === undefined ? message : replyText(cause);
}

/** Why a connection that stood is gone. */
export function lostError(cause: unknown, place: Place): MessagingError {
  const reason = cause === undefined ? "closed" : replyText(cause);
  return new MessagingError(
    "unreachable",
    `the connection to RabbitMQ at ${placeText(place)} is lost (${reason}); connecting again`,
    { cause },
  );
}

/** Whether what broke a connection was a frame that amqplib could not read, and not the network or the server. */
export function isUnreadable(cause: unknown): boolean {
  return (
    cause instanceof Error &&
    (cause.name === "RangeError" || /^(Unexpected type tag|Invalid frame|Frame size)/.test(cause.message))
  );
}

/** Why an operation on a channel failed. `what` completes "RabbitMQ refused to …"; `next` says what to do about a refusal. */
export function operationError(error: unknown, what: string, next: string): MessagingError {
  if (isMessagingError(error)) return error;
  const text = replyText(error);
  switch (replyCode(error)) {
    case NOT_FOUND:
      return new MessagingError("not-found", `RabbitMQ could not ${what}: ${text}; ${next}`, { cause: error });
    case ACCESS_REFUSED: {
      // From 4.0 on a look takes any right, and the server names that of the operator.
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
  if (/^(look for|count) /.test(what)) return "some right to it, such as to read it";
  if (/^(consume|read) /.test(what)) return "the right to read it";
  return what.startsWith("write ") ? "the right to write to it" : "that right";
}

/** The channel of a consumer is gone. */
export function closedError(queue: string, cause: unknown): MessagingError {
  const reason = cause === undefined ? "the connection is gone" : replyText(cause);
  return new MessagingError(
    "unreachable",
    `the consumer of queue "${queue}" lost its channel: ${reason}; subscribing again`,
    {
      cause,
    },
  );
}

/** What was to be renewed was not. */
export function notBackError(queue: string): MessagingError {
  return new MessagingError(
    "timeout",
    `a delivery of queue "${queue}" that was given back before RabbitMQ's consumer timeout did not come again; it expired, or its queue gave it up or gave it to another consumer`,
  );
}

/** Too much is held back in memory. */
export function tooMuchError(queue: string): MessagingError {
  return new MessagingError(
    "overloaded",
    `the ordered queue "${queue}" has messages so large that its consumer begins anew with fewer in memory`,
  );
}

/**
 * Whether a consumer was given more than a server gives that honours its prefetch. Once more than that is allowed for: a
 * quorum queue takes back what a consumer holds whose node is away, and gives as much again when it is back.
 */
export function isOverPrefetch(unsettled: number, prefetch: number): boolean {
  return unsettled > 2 * prefetch;
}

/** The server gives more than it was asked for. */
export function overPrefetchError(queue: string, prefetch: number): MessagingError {
  return new MessagingError(
    "conflict",
    `queue "${queue}" gave a consumer more than twice its prefetch of ${prefetch} without an answer: whatever serves it does not honour basic.qos, and would fill the memory; its channel is closed, which gives all of them back. See that RabbitMQ itself, and no proxy or other server, answers there`,
  );
}

/** The server ended a consumer. */
export function cancelledError(queue: string): MessagingError {
  return new MessagingError(
    "not-found",
    `RabbitMQ cancelled the consumer of queue "${queue}": the queue was deleted or moved, or a delivery was held longer than the server's consumer timeout; subscribing again`,
  );
}
