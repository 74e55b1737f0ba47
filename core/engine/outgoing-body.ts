import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Codec } from "../codec.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import { ignoreRejection, isThenable, thrownClass, unawaited } from "../foreign.ts";
import { refused, validateBody } from "./body-schema.ts";

/** Whose body it is, for errors, and what refuses and encodes it. */
export interface BodyForm {
  readonly where: string;
  readonly schema: StandardSchemaV1 | undefined;
  readonly codec: Codec;
}

/**
 * Checks a body and encodes it, or throws `invalid`: for what the schema refuses, what the codec cannot carry, and what
 * would arrive as something that the schema refuses. `encoded` is called with the bytes. A promise only where the schema
 * itself is asynchronous. Throws or rejects as the schema does.
 */
export function encodeChecked<Made>(
  form: BodyForm,
  body: unknown,
  encoded: (bytes: Uint8Array) => Made,
): Made | Promise<Made> {
  const { schema } = form;
  if (schema === undefined) return encoded(encodeBody(form, body));
  const accepted = ({ issues }: StandardSchemaV1.Result<unknown>): Made | Promise<Made> => {
    if (issues === undefined) return checkAndGive(form, schema, body, encoded);
    const { places, details } = refused(schema, issues, body);
    throw new MessagingError(
      "invalid",
      `${form.where}: the schema refuses the body at ${places}. Nothing was sent; correct the body, or the schema`,
      details,
    );
  };
  const result = validateBody(schema, body);
  return result instanceof Promise ? result.then(accepted) : accepted(result);
}

function checkAndGive<Made>(
  form: BodyForm,
  schema: StandardSchemaV1,
  body: unknown,
  encoded: (bytes: Uint8Array) => Made,
): Made | Promise<Made> {
  const bytes = encodeBody(form, body);
  if (keeps(form.codec, body)) return encoded(bytes);
  const made = encoded(bytes);
  const arrives = decodeAgain(form, bytes);
  const taken = ({ issues }: StandardSchemaV1.Result<unknown>): Made => {
    if (issues === undefined) return made;
    const { places, details } = refused(schema, issues, arrives);
    const what = `the schema takes the body, and would refuse what arrives of it as ${form.codec.contentType}, at ${places}`;
    const next =
      "let the schema take what arrives (a text for a date), or give the destination a codec that carries it";
    throw new MessagingError("invalid", `${form.where}: ${what}. Nothing was sent; ${next}`, details);
  };
  const result = validateBody(schema, arrives);
  return result instanceof Promise ? result.then(taken) : taken(result);
}

/** Where the codec fails to say so, what it encoded is looked at. */
function keeps(codec: Codec, body: unknown): boolean {
  try {
    return unawaited<unknown>(codec.keeps?.(body)) === true;
  } catch {
    return false;
  }
}

/** What a consumer would read. */
function decodeAgain({ where, codec }: BodyForm, bytes: Uint8Array): unknown {
  try {
    const body = decodeCopy(codec, bytes);
    ignoreRejection(body);
    if (!isThenable(body)) return body;
  } catch (cause) {
    const what = `the codec cannot decode what it encoded: ${codecFailure(cause)}`;
    throw new MessagingError("invalid", `${where}: ${what}. Nothing was sent`, { cause });
  }
  throw new MessagingError(
    "invalid",
    `${where}: decode() of the codec returned a promise, and a codec must not be asynchronous. Nothing was sent`,
  );
}

function encodeBody({ where, schema, codec }: BodyForm, body: unknown): Uint8Array {
  let bytes: unknown;
  try {
    bytes = codec.encode(body);
  } catch (cause) {
    const rawIssues = isMessagingError(cause) ? cause.rawIssues : [];
    // What a codec says of a body quotes nothing of it.
    const { places, details } = refused(schema, rawIssues, undefined);
    const at = places === "" ? "" : `, at ${places}`;
    const what = `the body cannot be encoded: ${codecFailure(cause)}${at}`;
    const next = "; send what the codec carries, or give the destination another codec";
    throw new MessagingError("invalid", `${where}: ${what}. Nothing was sent${next}`, { cause, ...details });
  }
  // A copy: a caller, or a codec, may use its buffer again before the broker has the message, and in process afterwards.
  if (bytes instanceof Uint8Array) return Buffer.from(bytes);
  // An async codec would be confirmed as a message without a body.
  ignoreRejection(bytes);
  const what = isThenable(bytes) ? "a promise, and a codec must not be asynchronous" : "no Uint8Array";
  throw new MessagingError("invalid", `${where}: encode() of the codec returned ${what}. Nothing was sent`);
}

/** Decodes a copy of the bytes: what is written into it must not reach the next attempt, nor another subscription. */
export function decodeCopy(codec: Codec, bytes: Uint8Array): unknown {
  return codec.decode(new Uint8Array(bytes));
}

/** What a codec threw. Only ours is known to quote nothing of the body. */
export function codecFailure(cause: unknown): string {
  return isMessagingError(cause, "invalid") ? cause.message : `the codec threw ${thrownClass(cause)}; see the cause`;
}
