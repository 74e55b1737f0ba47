import type { Clock } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { SYSTEM_PREFIX } from "../../core/system-headers.ts";
import { type Action, DONE, type Outcome } from "./action.ts";
import type { Archive, ArchivedEntry } from "./archive.ts";
import type { DeadLetter } from "./dead-letter.ts";
import { entryOf } from "./entry.ts";
import type { Source } from "./source.ts";

/** What a discard writes into the archive beside the message. */
export interface DiscardedBy {
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

  /** Each failure is archived, also of one message. */
  sameness({ id }: DeadLetter): string {
    return id;
  }

  async perform(letters: readonly DeadLetter[]): Promise<readonly Outcome[]> {
    const together = letters.filter(({ reference }) => reference === undefined);
    const outcome = together.length === 0 ? DONE : await this.#archive(together);
    const outcomes: Outcome[] = [];
    for (const letter of letters) {
      // What is stored elsewhere was too large for here: one of those is in memory at a time.
      outcomes.push(letter.reference === undefined ? outcome : await this.#archive([letter]));
    }
    return outcomes;
  }

  async #archive(letters: readonly DeadLetter[]): Promise<Outcome> {
    let archived: readonly ArchivedEntry[];
    try {
      archived = await Promise.all(letters.map((letter) => this.#archived(letter)));
    } catch (cause) {
      return failed("what a dead letter refers to could not be read for the archive, and it was not removed", cause);
    }
    try {
      await this.#to.append(archived);
      return DONE;
    } catch (cause) {
      const why = isMessagingError(cause) ? `: ${cause.message}` : "";
      return failed(`the archive did not take what was to be discarded, and nothing of it was removed${why}`, cause);
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
  // Not `refused`, which would be about one message.
  const code = isMessagingError(cause) && cause.code !== "refused" ? cause.code : "unconfirmed";
  return { kind: "failed", error: new MessagingError(code, `${what}; see the cause`, { cause }) };
}
