import { createHash } from "node:crypto";
import type { IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { Clock } from "../../core/clock.ts";
import type { MessageHeaders } from "../../core/delivery.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { shownId, shownReference } from "../../core/foreign.ts";
import { DERIVED_ID } from "../../core/message-ids.ts";
import { decodeCopy, encodeChecked } from "../../core/publish/encode-message.ts";
import { HEADER, headerBytes, SYSTEM_PREFIX, withHeaders } from "../../core/system-headers.ts";
import type { Archive, ArchivedEntry } from "./archive.ts";
import { DeadLetter, isUnreadable, type Source, type Target } from "./dead-letter.ts";
import { type DeadLetterEntry, entryOf, entryWith } from "./entry.ts";
import type { JsonPatch } from "./json-patch.ts";
import { patched, refuseRounded } from "./plan.ts";

/**
 * The result for one dead letter. `done`: it can be removed; `sent` is the id of its copy, if that is another id. `left`:
 * the edit returned undefined.
 */
export type Outcome =
  | { readonly kind: "done"; readonly sent?: string }
  | { readonly kind: "left" }
  | { readonly kind: "failed"; readonly error: MessagingError };

/** What a run does with dead letters before it removes them. */
export interface Action {
  /** The most dead letters per call. */
  readonly batch: number;
  /** The most concurrent calls. */
  readonly concurrency: number;
  /** The ids of referenced messages whose sends began. */
  readonly begun?: ReadonlySet<string>;
  /** The key that dead letters share of which one copy is enough. */
  copyKey(letter: DeadLetter): string;
  /**
   * Sends or archives them. Resolves with one outcome each, in order; `done` only after a confirm of the broker or the
   * archive. Never rejects.
   */
  perform(letters: readonly DeadLetter[]): Promise<readonly Outcome[]>;
}

export const DONE: Outcome = Object.freeze({ kind: "done" });
const LEFT: Outcome = Object.freeze({ kind: "left" });

/** Failures of one message. Every other failure would hit the next messages too, and ends the run. */
const OF_ONE_MESSAGE: readonly MessagingErrorCode[] = ["invalid", "too-large", "refused"];

export function endsRun({ code }: MessagingError): boolean {
  return !OF_ONE_MESSAGE.includes(code);
}

/**
 * Makes the new body of a dead letter from the decoded one, which the schema has not parsed. The body is undefined if the
 * codec cannot decode it. A result of undefined leaves the message where it is.
 */
export type Edit = (body: unknown, entry: DeadLetterEntry) => unknown | Promise<unknown>;

/** Replays dead letters, each as a confirmed copy under its own id. */
export class ReplayAction implements Action {
  readonly batch = 1;
  readonly concurrency = 1_000;
  /** Of the messages that dead letters refer to. */
  readonly begun = new Set<string>();
  readonly #internals: BrokerInternals;
  readonly #source: Source;
  readonly #target: Target;
  readonly #run: string;
  readonly #edit: Edit | JsonPatch | undefined;

  /** Numbers of dead letters whose ids are derived from their content. */
  readonly #derived = new WeakMap<DeadLetter, number>();
  #numbers = 0;

  constructor(
    internals: BrokerInternals,
    source: Source,
    target: Target,
    run: string,
    edit: Edit | JsonPatch | undefined,
  ) {
    this.#internals = internals;
    this.#source = source;
    this.#target = target;
    this.#run = run;
    this.#edit = edit;
  }

  /**
   * Copies of one message, left by a crash between copy and ack, are sent once. For ids derived from the content, equal
   * dead letters may be copies or several messages: each is sent.
   */
  copyKey(letter: DeadLetter): string {
    if (!letter.message.id.startsWith(DERIVED_ID)) return letter.content;
    const number = this.#derived.get(letter) ?? this.#numbers++;
    this.#derived.set(letter, number);
    return `${letter.content} ${number}`;
  }

  async perform(letters: readonly DeadLetter[]): Promise<readonly Outcome[]> {
    return Promise.all(letters.map((letter) => this.#replay(letter)));
  }

  async #replay(letter: DeadLetter): Promise<Outcome> {
    try {
      // Without an edit, the send starts in this turn: this keeps the order of the calls.
      return letter.reference === undefined ? await this.#send(letter) : await this.#sendReferred(letter);
    } catch (error) {
      return { kind: "failed", error: asMessagingError(error) };
    }
  }

  /** Sends the referenced message, or all messages of the referenced batch. */
  async #sendReferred(letter: DeadLetter): Promise<Outcome> {
    let isRead = false;
    try {
      return await this.#source.originals.use(letter, (messages) => {
        isRead = true;
        return this.#sendAll(letter, messages);
      });
    } catch (error) {
      if (isRead || !isUnreadable(error)) throw error;
      // A failure of one message: it does not end the run.
      const text = `${shownReference(letter.reference)}, which dead letter ${shownId(letter.id)} refers to, cannot be read; see the cause`;
      throw new MessagingError("invalid", text, { cause: error });
    }
  }

  async #sendAll(letter: DeadLetter, messages: readonly IncomingMessage[]): Promise<Outcome> {
    if (messages.length > 1 && this.#edit !== undefined) throw severalEdited(letter, messages.length);
    for (const { id } of messages) this.begun.add(id);
    const sent = await Promise.allSettled(
      messages.map((message) => this.#send(new DeadLetter(message, letter.destination), letter)),
    );
    const outcomes = sent.map((one) => {
      if (one.status === "rejected") throw one.reason;
      return one.value;
    });
    return outcomes.length === 1 ? (outcomes[0] as Outcome) : DONE;
  }

  /** Sends `letter`. `entry` is the dead letter that an edit gets: another one if that refers to `letter`. */
  async #send(letter: DeadLetter, entry = letter): Promise<Outcome> {
    const { address, ordered } = this.#target;
    const edit = this.#edit;
    const message = edit === undefined ? copyOf(letter, this.#run) : await this.#edited(letter, entry, edit);
    if (message === undefined) return LEFT;
    await this.#internals.sendCopy(address, ordered, message);
    return message.id === letter.message.id ? DONE : { kind: "done", sent: message.id };
  }

  async #edited(letter: DeadLetter, entry: DeadLetter, edit: Edit | JsonPatch): Promise<OutgoingMessage | undefined> {
    const changed =
      typeof edit === "function"
        ? await edit(
            this.#bodyOf(letter),
            await entryWith(entry, letter.message, this.#source, Number.POSITIVE_INFINITY),
          )
        : patched(this.#source.codec, letter.message.body, edit);
    if (changed === undefined) return undefined;
    const { schema, codec, name } = this.#target;
    const where = `edit for ${name}`;
    const body = await encodeChecked({ where, schema, codec }, changed, (bytes) => bytes);
    refuseRounded(letter.message.body, body);
    const { maxMessageBytes } = this.#internals.adapter.capabilities;
    if (body.length > maxMessageBytes) {
      const text = `the edited body has ${body.length} bytes, and ${this.#internals.adapter.name} takes ${maxMessageBytes}`;
      throw new MessagingError("too-large", text);
    }
    return editedCopyOf(letter, this.#run, body, codec.contentType);
  }

  #bodyOf({ message }: DeadLetter): unknown {
    try {
      return decodeCopy(this.#source.codec, message.body);
    } catch {
      return undefined;
    }
  }
}

function severalEdited({ reference }: DeadLetter, count: number): MessagingError {
  const text = `${shownReference(reference)} is a batch of ${count} messages, and an edit changes one message; replay the batch without an edit, and edit what fails`;
  return new MessagingError("invalid", text);
}

function asMessagingError(cause: unknown): MessagingError {
  if (isMessagingError(cause)) return cause;
  return new MessagingError("invalid", "the edit threw, or its result cannot be encoded; see the cause", { cause });
}

/** Headers of the message's last failure, which a copy does not keep. */
const LAST_LIFE: Readonly<Record<string, undefined>> = Object.freeze({
  [HEADER.attempts]: undefined,
  [HEADER.firstFailedAt]: undefined,
  [HEADER.dueAt]: undefined,
  [HEADER.expiresAt]: undefined,
  [HEADER.deadReason]: undefined,
  [HEADER.deadOrigin]: undefined,
  [HEADER.deadErrorClass]: undefined,
  [HEADER.deadError]: undefined,
  [HEADER.deadAttempts]: undefined,
  [HEADER.deadFirstAt]: undefined,
  [HEADER.deadLastAt]: undefined,
  [HEADER.deadReference]: undefined,
});

/** The message as it was published. Attempts and time to live start again. */
function copyOf({ message, replays }: DeadLetter, run: string): OutgoingMessage {
  const headers = withHeaders(message.headers, {
    ...LAST_LIFE,
    [HEADER.replays]: String(replays + 1),
    [HEADER.replayRun]: run,
  });
  const { id, key, routingKey, body, contentType, priority = 0, foreign } = message;
  return {
    id,
    key,
    routingKey,
    headers,
    body,
    contentType,
    size: sizeOf(body, headers),
    priority,
    delayMs: 0,
    ttlMs: undefined,
    ...(foreign === undefined ? undefined : { foreign }),
  };
}

function editedCopyOf(letter: DeadLetter, run: string, body: Uint8Array, contentType: string): OutgoingMessage {
  const copy = copyOf(letter, run);
  const { firstPublishedAt } = letter;
  const headers = withHeaders(copy.headers, {
    [HEADER.editedFrom]: copy.id,
    [HEADER.publishedAt]: firstPublishedAt === undefined ? undefined : String(firstPublishedAt),
  });
  return { ...copy, id: editedId(letter, body), body, contentType, headers, size: sizeOf(body, headers) };
}

function sizeOf(body: Uint8Array, headers: MessageHeaders): number {
  return body.length + headerBytes(headers);
}

/**
 * The id of an edited copy: a UUID of version 8 (RFC 9562) derived from the entry and the new body. The same edit, made
 * again after a crash, so is a duplicate.
 */
function editedId({ id }: DeadLetter, body: Uint8Array): string {
  const bytes = createHash("sha256").update(`${id}\n`).update(body).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** What the archive gets beside the message. */
interface DiscardedBy {
  readonly run: string;
  readonly by: string | undefined;
}

/** Archives dead letters. */
export class DiscardAction implements Action {
  readonly batch = 100;
  readonly concurrency = 1;
  readonly #source: Source;
  readonly #to: Archive;
  readonly #discarded: DiscardedBy;
  readonly #clock: Clock;

  constructor(source: Source, archive: Archive, discarded: DiscardedBy, clock: Clock) {
    this.#source = source;
    this.#to = archive;
    this.#discarded = discarded;
    this.#clock = clock;
  }

  /** Every failure is archived, also several of one message. */
  copyKey({ id }: DeadLetter): string {
    return id;
  }

  async perform(letters: readonly DeadLetter[]): Promise<readonly Outcome[]> {
    const together = letters.filter(({ reference }) => reference === undefined);
    const outcome = together.length === 0 ? DONE : await this.#archive(together);
    const outcomes: Outcome[] = [];
    for (const letter of letters) {
      // Referenced messages are large: only one of them is in memory at a time.
      outcomes.push(letter.reference === undefined ? outcome : await this.#archive([letter]));
    }
    return outcomes;
  }

  async #archive(letters: readonly DeadLetter[]): Promise<Outcome> {
    let archived: readonly ArchivedEntry[];
    try {
      archived = await Promise.all(letters.map((letter) => this.#archived(letter)));
    } catch (cause) {
      return failed("a message for the archive could not be read, and was not removed", cause);
    }
    try {
      await this.#to.append(archived);
      return DONE;
    } catch (cause) {
      const why = isMessagingError(cause) ? `: ${cause.message}` : "";
      return failed(`the archive did not accept the entries, and none of them was removed${why}`, cause);
    }
  }

  async #archived(letter: DeadLetter): Promise<ArchivedEntry> {
    const { run, by } = this.#discarded;
    const { headers } = letter.message;
    const systemHeaders: Record<string, string> = Object.create(null);
    for (const name in headers) if (name.startsWith(SYSTEM_PREFIX)) systemHeaders[name] = headers[name] as string;
    return {
      ...(await entryOf(letter, this.#source, Number.POSITIVE_INFINITY, true)),
      archivedAt: new Date(this.#clock.now()).toISOString(),
      run,
      by: by ?? null,
      systemHeaders,
    };
  }
}

function failed(what: string, cause: unknown): Outcome {
  // Not `refused`: that code is for one message.
  const code = isMessagingError(cause) && cause.code !== "refused" ? cause.code : "unconfirmed";
  return { kind: "failed", error: new MessagingError(code, `${what}; see the cause`, { cause }) };
}
