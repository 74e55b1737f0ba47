import type Connection from "kafkajs/src/network/connection.js";
import type { ProtocolRequest } from "kafkajs/src/network/connection.js";
import type { ErrorName } from "../port.ts";
import { AnswerReader, errorName } from "./exchange.ts";

const MIB = 1024 * 1024;
/** Answers before a login are short. Text of another protocol, read as a length, is longer. */
const MAX_BEFORE_LOGIN_BYTES = MIB;
/** More than the largest fetch. */
const MAX_BYTES = 256 * MIB;
const SASL_HANDSHAKE = 17;
const SASL_AUTHENTICATE = 36;
/** 60 times what Kafka's own tools allow. More would block a thread of the process's pool. */
const MAX_ITERATIONS = 1_000_000;
const ITERATIONS = /(?:^|,)i=(\d+)/;

/** What guarding a connection needs of its socket. */
interface GuardEvents {
  /** Whether the login succeeded. */
  isOpen(): boolean;
  /** The bytes are not Kafka's protocol: the socket is unusable. */
  garbled(cause: unknown): void;
  /** A login step was answered, with this error. */
  answered(refusal: ErrorName): void;
}

/**
 * Lets kafkajs' connection see only complete, expected answers of valid length, and only readable login answers.
 * Otherwise its exceptions would end the process, or a login would never end.
 */
export function guard(connection: Connection, events: GuardEvents): void {
  const frames = new Frames();
  const { requestQueue } = connection;
  const mostBytes = (): number => (events.isOpen() ? MAX_BYTES : MAX_BEFORE_LOGIN_BYTES);
  connection.processData = (chunk) => {
    try {
      for (const frame of frames.take(chunk, mostBytes)) {
        const correlationId = frame.readInt32BE(0);
        if (!requestQueue.inflight.has(correlationId)) throw new RangeError("an answer without a request");
        requestQueue.fulfillRequest({ correlationId, payload: frame.subarray(4), size: frame.length });
      }
    } catch (error) {
      events.garbled(error);
    }
  };
  const send = connection.send.bind(connection);
  connection.send = (protocol) => {
    const check = CHECKS.get(protocol.request.apiKey);
    return send(check === undefined ? protocol : checked(protocol, check, events));
  };
}

/** Returns an answer's error. Throws if it cannot be read. */
type Check = (from: AnswerReader, version: number) => ErrorName;

/** The requests that kafkajs sends by itself. */
const CHECKS: ReadonlyMap<number, Check> = new Map<number, Check>([
  [SASL_HANDSHAKE, checkHandshake],
  [SASL_AUTHENTICATE, checkAuthenticate],
]);

function checkHandshake(from: AnswerReader): ErrorName {
  const error = errorName(from.readInt16());
  from.readArray(() => from.readString()); // mechanisms
  return error;
}

function checkAuthenticate(from: AnswerReader, version: number): ErrorName {
  const error = errorName(from.readInt16());
  from.readString(); // error message
  const [, iterations] = ITERATIONS.exec(from.readBytes()?.toString("latin1") ?? "") ?? [];
  if (Number(iterations) > MAX_ITERATIONS) throw new RangeError(`${iterations} iterations of SCRAM`);
  if (version > 0 && from.readInt64() < 0n) throw new RangeError("a session that ends before it begins");
  return error;
}

function checked<Answer>(
  { request, response, ...rest }: ProtocolRequest<Answer>,
  check: Check,
  { garbled, answered }: GuardEvents,
): ProtocolRequest<Answer> {
  const decode = (payload: Buffer): Answer => {
    try {
      answered(check(new AnswerReader(payload), request.apiVersion));
    } catch (error) {
      garbled(error);
      throw error;
    }
    return response.decode(payload);
  };
  return { ...rest, request, response: { ...response, decode } };
}

const LENGTH_BYTES = 4;
/** The correlation id. */
const MIN_BYTES = 4;

/** Splits the bytes of a socket into protocol frames. */
export class Frames {
  #chunks: Buffer[] = [];
  #held = 0;
  #needed = LENGTH_BYTES;

  /**
   * The frames that these bytes complete, without lengths. Throws a `RangeError` for a length under four bytes or over
   * `mostBytes`.
   */
  *take(chunk: Buffer, mostBytes: () => number): Generator<Buffer, void, undefined> {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#needed) return;
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    this.#needed = LENGTH_BYTES;
    while (bytes.length >= LENGTH_BYTES) {
      const length = bytes.readInt32BE(0);
      if (length < MIN_BYTES || length > mostBytes()) throw new RangeError(`a length of ${length} bytes`);
      this.#needed = LENGTH_BYTES + length;
      if (bytes.length < this.#needed) break;
      yield bytes.subarray(LENGTH_BYTES, this.#needed);
      bytes = bytes.subarray(this.#needed);
      this.#needed = LENGTH_BYTES;
    }
    this.#chunks = bytes.length === 0 ? [] : [bytes];
    this.#held = bytes.length;
  }
}
