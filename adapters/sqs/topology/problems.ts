import { isMessagingError, type MessagingError } from "../../../core/errors.ts";

/** Everything that was found wrong, each once: one problem hides no other. */
export class Problems {
  readonly #found = new Map<string, MessagingError>();

  get all(): readonly MessagingError[] {
    return [...this.#found.values()];
  }

  add(problem: MessagingError): void {
    this.#found.set(`${problem.code} ${problem.message}`, problem);
  }

  /** What was looked for; undefined if there was a problem with it. Rejects with `unreachable` if nobody could look. */
  async collect<Result>(looking: Promise<Result>): Promise<Result | undefined> {
    try {
      return await looking;
    } catch (error) {
      if (!isMessagingError(error) || error.code === "unreachable") throw error;
      this.add(error);
      return undefined;
    }
  }
}
