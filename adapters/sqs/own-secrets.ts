import type { AwsCredentials } from "./options.ts";

const MASK = "***";
/** Shorter secrets would match other text by chance. */
const MIN_LENGTH = 4;
/** Longer secrets are masked in pieces of this length, because a text may contain only part of them. */
const PIECE = 12;
/** Requests in flight may be signed with earlier credentials. */
const MAX_CREDENTIALS = 3;
/** Longer answers are cut. */
const MAX_TEXT = 3_000;

/** Masks known texts, and pieces of them. */
class Mask {
  readonly #short: readonly string[];
  readonly #pieces = new Set<string>();

  constructor(texts: readonly string[]) {
    this.#short = texts.filter((text) => text.length >= MIN_LENGTH && text.length < PIECE);
    for (const text of texts) {
      for (let at = 0; at + PIECE <= text.length; at++) this.#pieces.add(text.slice(at, at + PIECE));
    }
  }

  hide(given: string): string {
    const text = this.#short.reduce((left, one) => left.replaceAll(one, MASK), given);
    let shown = "";
    let hiddenTo = 0;
    for (let at = 0; at < text.length; at++) {
      if (this.#pieces.has(text.slice(at, at + PIECE))) {
        if (at >= hiddenTo) shown += MASK;
        hiddenTo = at + PIECE;
      }
      if (at >= hiddenTo) shown += text.charAt(at);
    }
    return shown;
  }
}

/** The credentials of requests, which are masked in answers that repeat them. */
export class OwnSecrets {
  #known: readonly AwsCredentials[] = [];
  #mask: Mask | undefined;

  learn(credentials: AwsCredentials): void {
    const { accessKeyId: id, secretAccessKey: key, sessionToken: token } = credentials;
    const isKnown = this.#known.some(
      ({ accessKeyId, secretAccessKey, sessionToken }) =>
        accessKeyId === id && secretAccessKey === key && sessionToken === token,
    );
    if (isKnown) return;
    this.#known = [...this.#known, credentials].slice(-MAX_CREDENTIALS);
    this.#mask = undefined;
  }

  /** Returns the text without secrets, cut to a maximum. */
  hide(text: string): string {
    this.#mask ??= new Mask(
      this.#known.flatMap(({ accessKeyId, secretAccessKey, sessionToken = "" }) =>
        [accessKeyId, secretAccessKey, sessionToken].flatMap((secret) => [
          secret,
          encodeURIComponent(secret.toWellFormed()),
          Buffer.from(secret).toString("base64").replace(/=+$/, ""),
        ]),
      ),
    );
    return this.#mask.hide(text.slice(0, MAX_TEXT));
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

/** The property of an error with the request's content: a function, so that nothing prints it with the error. */
const SENT = Symbol("sent");

/** Attaches the request's content, so that {@link withoutSent} can mask it. */
export function rememberSent(error: unknown, sent: unknown): void {
  if (error instanceof Error) Object.defineProperty(error, SENT, { value: () => sent, configurable: true });
}

function sentWith(error: object): unknown {
  return (error as { readonly [SENT]?: () => unknown })[SENT]?.();
}

/** Returns a text of an answer with the request's bodies and headers masked. */
export function withoutSent(error: object, text: string): string {
  const sent = sentWith(error);
  return sent === undefined ? text : new Mask([...textsOf(sent)]).hide(text);
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

/** Masks credentials in an error of a service, and attaches the request's content for later masking. */
export function hideInError(error: unknown, secrets: OwnSecrets, sent: unknown): void {
  if (!(error instanceof Error)) return;
  const answer = error as ServiceError;
  if (answer.$metadata?.httpStatusCode === undefined && !Object.hasOwn(error, "$response")) return;
  rememberSent(error, sent);
  const { name, message, $metadata } = answer;
  const isSecret = (text: string): boolean => secrets.hide(text) !== text;
  if (typeof name === "string" && (isSecret(name) || isSent(error, name))) answer.name = "";
  if (typeof message === "string") answer.message = secrets.hide(message);
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
