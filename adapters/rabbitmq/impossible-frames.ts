import type { ChannelModel } from "amqplib";

/*
 * amqplib believes the numbers in a server's frames: it makes room for all messages up to a confirmed one, and collects a
 * body of any announced size. This file ends the connection on numbers that no RabbitMQ sends.
 */

/** The parts of amqplib's connection that read frames; not in amqplib's types. */
interface FrameReader {
  recvFrame(): unknown;
  readonly channels?: readonly ({ readonly channel?: Confirming } | null | undefined)[];
}

/** The parts of amqplib's channel that count confirms; channel 0 has none. */
interface Confirming {
  /** The lowest tag that is not confirmed. */
  readonly lwm?: number;
  /** The messages from that tag on. */
  readonly unconfirmed?: readonly unknown[];
}

/** A decoded frame. */
interface Frame {
  readonly id?: number;
  readonly channel?: number;
  /** The announced bytes of a body. */
  readonly size?: number;
  readonly fields?: { readonly deliveryTag?: unknown };
}

const BASIC_PROPERTIES = 60;
const BASIC_ACK = (60 << 16) | 80;
const BASIC_NACK = (60 << 16) | 120;
/** RabbitMQ accepts no larger message, whatever its max_message_size. */
const MAX_BODY_BYTES = 512 * 1024 * 1024;

/** Has impossible frames break a connection. Does nothing if amqplib's internals have changed. */
export function guardFrames(model: ChannelModel): void {
  const reader = model.connection as unknown as Partial<FrameReader>;
  const { recvFrame } = reader;
  if (typeof recvFrame !== "function") return;
  reader.recvFrame = function (this: FrameReader): unknown {
    const frame = recvFrame.call(this);
    const why = whyImpossible(this, frame as Frame);
    if (why !== undefined) throw new Error(`the server sent an impossible frame: ${why}`);
    return frame;
  };
}

function whyImpossible({ channels }: FrameReader, { id, channel = 0, size, fields }: Frame): string | undefined {
  if (id === BASIC_PROPERTIES) {
    const isPossible = size === undefined || (size >= 0 && size <= MAX_BODY_BYTES);
    return isPossible ? undefined : `a message of ${size} bytes, and RabbitMQ has none over ${MAX_BODY_BYTES}`;
  }
  if (id !== BASIC_ACK && id !== BASIC_NACK) return undefined;
  const { lwm, unconfirmed } = channels?.[channel]?.channel ?? {};
  if (lwm === undefined || unconfirmed === undefined) return undefined;
  const tag = fields?.deliveryTag;
  const isPossible = typeof tag === "number" && tag >= lwm && tag < lwm + unconfirmed.length;
  return isPossible ? undefined : "a confirm of a message that is not unconfirmed";
}
