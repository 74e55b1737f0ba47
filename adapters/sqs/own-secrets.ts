import type { AwsCredentials } from "./options.ts";

const MASK = "***";
/** Shorter ones are in any text by chance. */
const SHORTEST = 4;
/** So much of a longer one is masked on its own: a text that is cut may hold no more of it. */
const PIECE = 12;
/** Requests that are under way may hold those before the last. */
const MOST_CREDENTIALS = 3;
/** An answer that says more is not read on. */
const MOST_TEXT = 3_000;

/** Removes known texts, and pieces of them, from short ones. */
class Mask {
  readonly #short: readonly string[];
  readonly #pieces = new Set<string>();

  constructor(texts: readonly string[]) {
    this.#short = texts.filter((text) => text.length >= SHORTEST && text.length < PIECE);
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

/** The credentials that requests are signed with, so that no answer that repeats them is shown with them. */
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
    this.#known = [...this.#known, credentials].slice(-MOST_CREDENTIALS);
    this.#mask = undefined;
  }

  /** The text without them, cut. */
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
    return this.#mask.hide(text.slice(0, MOST_TEXT));
  }
}

/** Fields that hold a body, and those that hold a header. A short header may be the name of a queue, which is shown. */
const SHORTEST_SENT: Readonly<Record<string, number>> = {
  MessageBody: SHORTEST,
  Message: SHORTEST,
  body: SHORTEST,
  StringValue: PIECE,
};
/** Of each body. Nobody repeats more of it than its beginning, which is all that is shown. */
const MOST_SENT = 4_096;

/** Where an error keeps what was sent with its request: behind a function, so that nothing that shows the error shows it. */
const SENT = Symbol("sent");

/** Keeps what was sent, so that {@link withoutSent} leaves it out. */
export function rememberSent(error: unknown, sent: unknown): void {
  if (error instanceof Error) Object.defineProperty(error, SENT, { value: () => sent, configurable: true });
}

function sentWith(error: object): unknown {
  return (error as { readonly [SENT]?: () => unknown })[SENT]?.();
}

/** A text that an answer said, without what it repeats of the bodies and headers that were sent. */
export function withoutSent(error: object, text: string): string {
  const sent = sentWith(error);
  return sent === undefined ? text : new Mask([...textsOf(sent)]).hide(text);
}

/** Whether an answer gives as its code what was sent as a body. */
function isSent(error: object, code: string): boolean {
  for (const text of textsOf(sentWith(error))) if (text === code) return true;
  return false;
}

function* textsOf(value: unknown): Generator<string> {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  for (const [name, one] of Object.entries(value)) {
    const shortest = SHORTEST_SENT[name];
    if (typeof one !== "string") yield* textsOf(one);
    else if (shortest !== undefined && one.length >= shortest) yield one.slice(0, MOST_SENT);
  }
}

/** What is read, and changed, of an error of the SDK or of a failed entry of a batch. */
interface Said {
  name?: unknown;
  message?: unknown;
  Code?: unknown;
  Message?: unknown;
  $metadata?: { httpStatusCode?: unknown; requestId?: unknown };
}

/** Takes the own credentials out of what a service said in an error, and remembers what was sent, for what is shown later. */
export function hideInError(error: unknown, secrets: OwnSecrets, sent: unknown): void {
  if (!(error instanceof Error)) return;
  const said = error as Said;
  if (said.$metadata?.httpStatusCode === undefined && !Object.hasOwn(error, "$response")) return;
  rememberSent(error, sent);
  const { name, message, $metadata } = said;
  const isSecret = (text: string): boolean => secrets.hide(text) !== text;
  if (typeof name === "string" && (isSecret(name) || isSent(error, name))) said.name = "";
  if (typeof message === "string") said.message = secrets.hide(message);
  const id = $metadata?.requestId;
  if ($metadata !== undefined && typeof id === "string" && (isSecret(id) || isSent(error, id))) {
    $metadata.requestId = undefined;
  }
}

/** The same for the failed entries of a batch. */
export function hideInEntries(failed: unknown, secrets: OwnSecrets): void {
  for (const said of Array.isArray(failed) ? (failed as Said[]) : []) {
    if (typeof said.Code === "string" && secrets.hide(said.Code) !== said.Code) said.Code = "";
    if (typeof said.Message === "string") said.Message = secrets.hide(said.Message);
  }
}
