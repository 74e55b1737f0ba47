import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { IncomingMessage } from "../adapter.ts";
import type { Codec } from "../codec.ts";
import { MessagingError } from "../errors.ts";
import { ignoreRejection, isThenable } from "../foreign.ts";
import { refused, validateBody } from "./body-schema.ts";
import { codecFailure } from "./outgoing-body.ts";

/**
 * Decodes a body and parses it with the schema. Throws or rejects with `invalid` for a body that either refuses. A
 * promise only where the schema itself is asynchronous.
 */
export function readBody(
  incoming: IncomingMessage,
  codec: Codec,
  schema: StandardSchemaV1 | undefined,
): { readonly value: unknown } | Promise<{ readonly value: unknown }> {
  let value: unknown;
  try {
    value = codec.decode(incoming.body);
  } catch (cause) {
    throw new MessagingError("invalid", `the body cannot be decoded as ${codec.contentType}: ${codecFailure(cause)}`, {
      cause,
    });
  }
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
