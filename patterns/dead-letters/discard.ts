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
  readonly #archive: Archive;
  readonly #discarded: DiscardedBy;
  readonly #clock: Clock;

  constructor(source: Source, archive: Archive, discarded: DiscardedBy, clock: Clock) {
    this.#source = source;
    this.#archive = archive;
    this.#discarded = discarded;
    this.#clock = clock;
  }

  /** Each failure is archived, also of one message. */
  sameness({ id }: DeadLetter): string {
    return id;
  }

  async perform(letters: readonly DeadLetter[]): Promise<readonly Outcome[]> {
    try {
      await this.#archive.append(await Promise.all(letters.map((letter) => this.#archived(letter))));
      return letters.map(() => DONE);
    } catch (cause) {
      // Not `rejected`, which would be about one message.
      const text = "the archive did not take what was to be discarded, and nothing of it was removed; see the cause";
      const code = isMessagingError(cause) && cause.code !== "rejected" ? cause.code : "unconfirmed";
      const error = new MessagingError(code, text, { cause });
      return letters.map(() => ({ kind: "failed", error }));
    }
  }

  async #archived(letter: DeadLetter): Promise<ArchivedEntry> {
    const { run, by } = this.#discarded;
    const { headers } = letter.message;
    const systemHeaders: Record<string, string> = Object.create(null);
    for (const name in headers) if (name.startsWith(SYSTEM_PREFIX)) systemHeaders[name] = headers[name] as string;
    return {
      ...(await entryOf(letter, this.#source, Number.POSITIVE_INFINITY)),
      archivedAt: new Date(this.#clock.now()).toISOString(),
      run,
      by: by ?? null,
      systemHeaders,
    };
  }
}
