import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { IncomingMessage } from "../adapter.ts";
import { bytesCodec, type Codec } from "../codec.ts";
import type { Headers } from "../delivery.ts";
import type { Tombstones } from "../destination.ts";
import { MessagingError } from "../errors.ts";
import { ignoreRejection, isThenable } from "../foreign.ts";
import { refused, validateBody } from "./body-schema.ts";
import { clean } from "./copies.ts";
import { codecFailure, decodeCopy } from "./outgoing-body.ts";

/** How the bodies of a destination are read. */
export interface Reading {
  readonly codec: Codec;
  readonly schema: StandardSchemaV1 | undefined;
  readonly tombstones?: Tombstones | undefined;
}

/**
 * Decodes a body and parses it with the schema. Throws or rejects with `invalid` for a body that either refuses. A
 * promise only where the schema itself is asynchronous.
 */
export function readBody(
  incoming: IncomingMessage,
  { codec, schema, tombstones = "dead-letter" }: Reading,
): { readonly value: unknown } | Promise<{ readonly value: unknown }> {
  const value = incoming.tombstone === true ? tombstoneBody(codec, tombstones) : decoded(incoming, codec);
  if (isThenable(value)) {
    ignoreRejection(value);
    throw new MessagingError(
      "invalid",
      "decode() of the codec returned a promise, and a codec must not be asynchronous",
    );
  }
  if (schema === undefined) return { value };
  const accepted = (result: StandardSchemaV1.Result<unknown>): { readonly value: unknown } => {
    if (result.issues === undefined) return result;
    const { places, details } = refused(schema, result.issues, value);
    throw new MessagingError("invalid", `the schema refuses the body at ${places}`, details);
  };
  // What a schema throws may quote the body.
  const failed = (cause: unknown): never => {
    throw new MessagingError("invalid", "the schema failed on the body; see the cause", { cause });
  };
  let result: ReturnType<typeof validateBody>;
  try {
    result = validateBody(schema, value);
  } catch (cause) {
    return failed(cause);
  }
  return result instanceof Promise ? result.then(accepted, failed) : accepted(result);
}

function decoded(incoming: IncomingMessage, codec: Codec): unknown {
  try {
    return decodeCopy(codec, incoming.body);
  } catch (cause) {
    throw new MessagingError(
      "invalid",
      `the body cannot be decoded as ${codec.contentType}: ${codecFailure(cause)}${encodingHint(incoming)}`,
      { cause },
    );
  }
}

/** No codec is asked: most would make a value of no bytes, and none could tell it from an empty body. */
function tombstoneBody(codec: Codec, tombstones: Tombstones): unknown {
  if (tombstones !== "dead-letter") return null;
  if (codec.contentType === bytesCodec.contentType) return new Uint8Array();
  throw new MessagingError(
    "invalid",
    'it is a tombstone: a record with a key and no value, which says that what the key names was deleted. Give its destination { tombstones: "skip" } to pass over such records, or "null" to handle them with the body null',
  );
}

const LONGEST_ENCODING = 64;
const GZIP: readonly [number, number] = [0x1f, 0x8b];
/** What says nothing of the bytes: the charset, as kombu writes it, or that there is no encoding. */
const PLAIN = /^(?:|identity|binary|8bit|us-ascii|utf-?8)$/i;
const ADVICE = "Give the destination a codec that decodes that first, or have it sent without";

/** What to do about a body that is compressed or otherwise encoded, if it is. */
function encodingHint({ contentEncoding, headers, body }: IncomingMessage): string {
  const encoding = contentEncoding ?? headerOf(headers, "content-encoding") ?? "";
  if (!PLAIN.test(encoding)) {
    return `. Its content-encoding is "${clean(encoding, LONGEST_ENCODING)}", which this codec does not know. ${ADVICE}`;
  }
  return body[0] === GZIP[0] && body[1] === GZIP[1] ? `. It begins as gzip does. ${ADVICE}` : "";
}

/** By its name in any case: HTTP's names are written in several ways. */
function headerOf(headers: Headers, wanted: string): string | undefined {
  for (const name in headers) if (name.toLowerCase() === wanted) return headers[name];
  return undefined;
}
