import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { IncomingMessage } from "../adapter.ts";
import type { Codec } from "../codec.ts";
import { MessagingError } from "../errors.ts";
import { issuePath } from "./outgoing.ts";

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
    const why = cause instanceof Error ? cause.message : "the codec failed";
    throw new MessagingError("invalid", `the body cannot be decoded as ${codec.contentType}: ${why}`, { cause });
  }
  if (schema === undefined) return { value };
  const result = schema["~standard"].validate(value);
  return result instanceof Promise ? result.then(accepted) : accepted(result);
}

function accepted(result: StandardSchemaV1.Result<unknown>): { readonly value: unknown } {
  if (result.issues === undefined) return result;
  const shown = result.issues.slice(0, 5).map(issuePath);
  throw new MessagingError("invalid", `the schema refuses the body at ${shown.join(", ")}`);
}
