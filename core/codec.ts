import { MessagingError } from "./errors.ts";

/**
 * Turns bodies into bytes and back. Both methods are synchronous.
 *
 * - `decode` gets bytes of any sender. It must be safe on hostile bytes, and throw on those that it cannot read; the message
 *   is then dead-lettered with the reason `invalid`.
 * - Their errors must not quote the body. Errors and dead letters name the class of what they throw, and the message only of
 *   a `MessagingError`.
 */
export interface Codec {
  /** The content type of every message. */
  readonly contentType: string;
  /** The engine copies the bytes: the codec may reuse its buffer. */
  encode(body: unknown): Uint8Array;
  /** The bytes are a copy for this call: the codec may change and keep them. */
  decode(bytes: Uint8Array): unknown;
  /**
   * Returns whether `decode(encode(body))` equals the body, without encoding it. Optional. Otherwise, if the destination
   * has a schema, the engine decodes the bytes and validates the result before it sends them.
   */
  keeps?(body: unknown): boolean;
}

/** The codec for bodies that are bytes. Each handler gets its own copy. */
export const bytesCodec: Codec = {
  contentType: "application/octet-stream",
  encode(body) {
    if (body instanceof Uint8Array) return body;
    throw new MessagingError("invalid", "the body must be a Uint8Array, because its destination has the bytes codec");
  },
  decode: (bytes) => bytes,
  keeps: (body) => body instanceof Uint8Array && Object.getPrototypeOf(body) === Uint8Array.prototype,
};
