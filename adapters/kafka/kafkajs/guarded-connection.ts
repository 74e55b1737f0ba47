import type Connection from "kafkajs/src/network/connection.js";
import type { ProtocolRequest } from "kafkajs/src/network/connection.js";
import type { ErrorName } from "../port.ts";
import { AnswerReader, errorName } from "./exchange.ts";
import { Frames } from "./frames.ts";

const MIB = 1024 * 1024;
/** What a server says before it lets anybody in is short, and what is no Kafka's never is: text, read as a length. */
const MAX_BEFORE_LOGIN_BYTES = MIB;
/** Beyond the largest piece of a log that is asked for. */
const MAX_BYTES = 256 * MIB;
const SASL_HANDSHAKE = 17;
const SASL_AUTHENTICATE = 36;
/** 60 times what Kafka's own tools allow. More would keep a thread busy that the whole process shares. */
const MAX_ITERATIONS = 1_000_000;
const ITERATIONS = /(?:^|,)i=(\d+)/;

/** What guarding a connection takes. */
export interface GuardEvents {
  /** Whether the broker has let us in. */
  isOpen(): boolean;
  /** What came is no Kafka's, and why not: the socket is of no more use. */
  garbled(cause: unknown): void;
  /** What a step of a login was answered. */
  answered(refusal: ErrorName): void;
}

/**
 * Has a connection of kafkajs see nothing but whole answers to what was asked, of lengths that can be, and in a login none
 * that cannot be read: what it throws at others would end the process, or never end.
 */
export function guard(connection: Connection, events: GuardEvents): void {
  const frames = new Frames();
  const { requestQueue } = connection;
  const mostBytes = (): number => (events.isOpen() ? MAX_BYTES : MAX_BEFORE_LOGIN_BYTES);
  connection.processData = (chunk) => {
    try {
      for (const frame of frames.take(chunk, mostBytes)) {
        const correlationId = frame.readInt32BE(0);
        if (!requestQueue.inflight.has(correlationId)) throw new RangeError("an answer that nobody asked for");
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

/** Gives the error that an answer names. Throws for one that cannot be read. */
type Check = (from: AnswerReader, version: number) => ErrorName;

/** Of what kafkajs asks by itself. */
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
  from.readString(); // the server's words for it
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
