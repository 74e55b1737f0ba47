import type { SQSClient } from "@aws-sdk/client-sqs";
import { settleWithin } from "../../core/clock.ts";
import { thrownClass, thrownText } from "../../core/foreign.ts";
import { secretForms } from "../../core/secret-forms.ts";
import { type AwsCredentials, flawOf, KEYS, type SqsOptions } from "./options.ts";

/** The credentials function returned none. The message contains nothing that it threw or returned. */
export class CredentialsError extends Error {
  // The SDK's name for it: AWS was not asked.
  override readonly name = "CredentialsProviderError";
}

const NAMES = /^(Credentials|Token)ProviderError$/;

/** Whether there were no credentials, so that AWS was not asked. */
export function isCredentialsError(error: unknown): boolean {
  return NAMES.test(thrownClass(error));
}

/**
 * Copies credentials after a check. The SDK keeps them until the expiration: with an invalid expiration, or a token
 * that no header can carry, every request would fail for ever.
 */
function checkedCredentials<Given extends AwsCredentials>(where: string, given: Given, help: string): Given {
  const copy = { ...given };
  const flaw = flawOf(copy);
  if (flaw !== undefined) throw new CredentialsError(`${where} ${flaw}; ${help}`);
  return copy.expiration === undefined ? copy : { ...copy, expiration: new Date(copy.expiration) };
}

/** Called with the credentials that are used. */
type Learn = (credentials: AwsCredentials) => void;

type Provider = NonNullable<SQSClient["config"]["credentials"]>;

/**
 * Bounds the SDK's credential chain, which may wait for ever. Rejects with a {@link CredentialsError} after
 * `timeoutMs`, and for invalid credentials.
 */
export function chainCredentials(chain: Provider, timeoutMs: number, learn: Learn): Provider {
  const help = "set sqs({ credentials }), or check AWS_PROFILE, its credential_process and the role of this machine";
  const late = (): CredentialsError =>
    new CredentialsError(`the AWS SDK's credential chain found no credentials within ${timeoutMs} ms; ${help}`);
  const bounded: Provider = async (...parameters) => {
    const found = await settleWithin(timeoutMs, late, chain(...parameters));
    const checked = checkedCredentials("the AWS SDK's credential chain found", found, help);
    learn(checked);
    return checked;
  };
  // Keeps the properties that the SDK has set on the provider.
  return Object.assign(bounded, chain);
}

/**
 * The credentials as the SDK takes them. A function that fails, takes too long or returns invalid credentials fails
 * with a {@link CredentialsError}: the SDK alone would report a broken connection, or wait for ever.
 */
export function providedCredentials(
  credentials: SqsOptions["credentials"],
  timeoutMs: number,
  learn: Learn,
): SqsOptions["credentials"] {
  if (typeof credentials !== "function") {
    if (credentials !== undefined) learn(credentials);
    return credentials;
  }
  // Providers of the SDK get the client as an argument.
  const callProvider = credentials as (...parameters: readonly unknown[]) => Promise<AwsCredentials>;
  const late = (): CredentialsError =>
    new CredentialsError(
      `the credentials function returned nothing within ${timeoutMs} ms (requestTimeoutMs); check whether it can reach its server`,
    );
  const help = `make it return ${KEYS}, with sessionToken and expiration if they have them`;
  return async (...parameters: readonly unknown[]) => {
    try {
      const given = await settleWithin(timeoutMs, late, Promise.resolve(callProvider(...parameters)));
      const checked = checkedCredentials("the credentials function returned", given, help);
      learn(checked);
      return checked;
    } catch (cause) {
      if (isCredentialsError(cause)) throw cause;
      const what = `the credentials function failed (${thrownClass(cause)})`;
      throw new CredentialsError(`${what}; see the cause, and check whether it can reach its server`, { cause });
    }
  };
}

const MASK = "***";
/** Shorter secrets would match other text by chance. */
const MIN_LENGTH = 4;
/** Longer secrets are masked in pieces of this length, because a text may contain only part of them. */
const PIECE = 12;
/** Requests in flight may be signed with earlier credentials. */
const MAX_CREDENTIALS = 3;
/** Longer answers are cut. */
const MAX_TEXT = 3_000;

/** Masks these texts, and pieces of them, in an answer. Looks for the few pieces of the answer in the many of the texts. */
function masked(answer: string, texts: readonly string[]): string {
  const short = texts.filter(({ length }) => length >= MIN_LENGTH && length < PIECE);
  const text = short.reduce((left, one) => left.replaceAll(one, MASK), answer);
  const pieces = new Set(piecesOf(text));
  const hidden = new Set<string>();
  for (const one of texts) for (const piece of piecesOf(one)) if (pieces.has(piece)) hidden.add(piece);
  let shown = "";
  let hiddenTo = 0;
  for (let at = 0; at < text.length; at++) {
    if (hidden.has(text.slice(at, at + PIECE))) {
      if (at >= hiddenTo) shown += MASK;
      hiddenTo = at + PIECE;
    }
    if (at >= hiddenTo) shown += text.charAt(at);
  }
  return shown;
}

function* piecesOf(text: string): Generator<string> {
  for (let at = 0; at + PIECE <= text.length; at++) yield text.slice(at, at + PIECE);
}

/** The credentials of requests, which are masked in answers that repeat them. */
export class OwnSecrets {
  #known: readonly AwsCredentials[] = [];
  #forms: readonly string[] | undefined;

  learn(credentials: AwsCredentials): void {
    const { accessKeyId: id, secretAccessKey: key, sessionToken: token } = credentials;
    const isKnown = this.#known.some(
      ({ accessKeyId, secretAccessKey, sessionToken }) =>
        accessKeyId === id && secretAccessKey === key && sessionToken === token,
    );
    if (isKnown) return;
    this.#known = [...this.#known, credentials].slice(-MAX_CREDENTIALS);
    this.#forms = undefined;
  }

  /** Returns the text without secrets, cut to a maximum. */
  hide(text: string): string {
    this.#forms ??= this.#known.flatMap(({ accessKeyId, secretAccessKey, sessionToken = "" }) =>
      [accessKeyId, secretAccessKey, sessionToken].flatMap((secret) => secretForms(secret)),
    );
    return masked(text.slice(0, MAX_TEXT), this.#forms);
  }
}

/** The shortest value to mask, by field: bodies and headers. A short header may be a queue's name, which is shown. */
const MIN_LENGTH_OF: Readonly<Record<string, number>> = {
  MessageBody: MIN_LENGTH,
  Message: MIN_LENGTH,
  body: MIN_LENGTH,
  StringValue: PIECE,
};
/** The most characters of each body. Texts that are shown are shorter. */
const MAX_SENT = 4_096;
/** The most characters of each body that are looked for in other encodings, which cost more. */
const MAX_ENCODED = 512;

/** The property of an error with the request's content: a function, so that nothing prints it with the error. */
const SENT = Symbol("sent");

/** Attaches the request's content, so that {@link withoutSent} can mask it. */
export function rememberSent(error: unknown, sent: unknown): void {
  if (error instanceof Error) Object.defineProperty(error, SENT, { value: () => sent, configurable: true });
}

function sentWith(error: object): unknown {
  return (error as { readonly [SENT]?: () => unknown })[SENT]?.();
}

/** Returns a text of an answer with the request's bodies and headers masked, also as in a URL, in JSON and in base64. */
export function withoutSent(error: object, text: string): string {
  const sent = sentWith(error);
  if (sent === undefined) return text;
  const forms = [...textsOf(sent)].flatMap((one) => [one, ...secretForms(one.slice(0, MAX_ENCODED))]);
  return masked(text, forms);
}

/** Whether the code in an answer is a body that was sent. */
function isSent(error: object, code: string): boolean {
  for (const text of textsOf(sentWith(error))) if (text === code) return true;
  return false;
}

function* textsOf(value: unknown): Generator<string> {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  for (const [name, one] of Object.entries(value)) {
    const shortest = MIN_LENGTH_OF[name];
    if (typeof one !== "string") yield* textsOf(one);
    else if (shortest !== undefined && one.length >= shortest) yield one.slice(0, MAX_SENT);
  }
}

/** The fields of an SDK error or a failed batch entry that are read and masked. */
interface ServiceError {
  name?: unknown;
  message?: unknown;
  Code?: unknown;
  Message?: unknown;
  $metadata?: { httpStatusCode?: unknown; requestId?: unknown };
}

/**
 * Makes an error of a service safe to read: `name` and `message` become strings, because the SDK takes them unchecked
 * from the answer, and a gateway may answer `{ "message": 403 }`. Masks credentials in them, and attaches the request's
 * content for later masking.
 */
export function hideInError(error: unknown, secrets: OwnSecrets, sent: unknown): void {
  if (!(error instanceof Error)) return;
  const answer = error as ServiceError;
  if (answer.$metadata?.httpStatusCode === undefined && !Object.hasOwn(error, "$response")) return;
  rememberSent(error, sent);
  const { name, $metadata } = answer;
  const isSecret = (text: string): boolean => secrets.hide(text) !== text;
  if (typeof name !== "string" || isSecret(name) || isSent(error, name)) answer.name = "";
  answer.message = secrets.hide(thrownText(error));
  const id = $metadata?.requestId;
  if ($metadata !== undefined && typeof id === "string" && (isSecret(id) || isSent(error, id))) {
    $metadata.requestId = undefined;
  }
}

/** Masks credentials in the failed entries of a batch. */
export function hideInEntries(failed: unknown, secrets: OwnSecrets): void {
  for (const answer of Array.isArray(failed) ? (failed as ServiceError[]) : []) {
    if (typeof answer.Code === "string" && secrets.hide(answer.Code) !== answer.Code) answer.Code = "";
    if (typeof answer.Message === "string") answer.Message = secrets.hide(answer.Message);
  }
}
