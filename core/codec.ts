import { MessagingError } from "./errors.ts";

/**
 * Turns bodies into bytes and back, at once: neither may return a promise. `decode` is given whatever was on the broker, from
 * any sender: it must be safe on hostile bytes, and throw on anything it cannot read; the message is then dead-lettered with
 * reason `invalid`.
 * Neither may put the body into an error: of what it throws, errors and dead letters name the class, and the message only
 * of a `MessagingError`.
 */
export interface Codec {
  /** Written on every message, so that others can read it. */
  readonly contentType: string;
  /** The bytes are copied: the codec may use its buffer again. */
  encode(body: unknown): Uint8Array;
  /** The bytes are a copy for this call: the codec may write into them, and keep them. */
  decode(bytes: Uint8Array): unknown;
  /**
   * Whether `decode(encode(body))` is equal to the body, told without encoding it. Optional: where it does not say so, and
   * the destination has a schema, what was encoded is decoded and shown to the schema before it is sent.
   */
  keeps?(body: unknown): boolean;
}

/** Bodies that are bytes already. Each handler gets a copy of its own. */
export const bytesCodec: Codec = {
  contentType: "application/octet-stream",
  encode(body) {
    if (body instanceof Uint8Array) return body;
    throw new MessagingError("invalid", "the body must be a Uint8Array, because its destination has the bytes codec");
  },
  decode: (bytes) => bytes,
  keeps: (body) => body instanceof Uint8Array && Object.getPrototypeOf(body) === Uint8Array.prototype,
};
