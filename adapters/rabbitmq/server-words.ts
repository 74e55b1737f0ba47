import { isMessagingError } from "../../core/errors.ts";
import { oneLine, thrownClass, thrownText } from "../../core/foreign.ts";
import { secretForms, withoutPieces } from "../../core/secret-forms.ts";

/** AMQP's own texts have 255 bytes at most, and amqplib says before them what happened. */
const MOST_TEXT = 400;

/** What is looked at: what is masked becomes shorter. */
const MOST_READ = 4_096;

const MOST_NAME = 64;

/** A function may give another password to each connection and to the management API, and a new one before the old is over. */
const MOST_PASSWORDS = 8;

/**
 * Where a text may begin to quote a message: JSON, also with escaped quotes, and bytes as Erlang writes them. RabbitMQ's
 * own texts name things between single quotes.
 */
const QUOTED_BODY = /(?:<<"|[{[]\s*(?:\\*"|[{[])).*$/s;

/** An error whose text came from the server, or may have: with what may be shown of it, and nothing else. */
class ServerError extends Error {
  override readonly name: string;
  /** AMQP's reply code, or Node's own code. */
  readonly code: number | string | undefined;

  constructor(name: string, text: string, code: number | string | undefined) {
    super(text);
    this.name = name;
    this.code = code;
  }
}

/**
 * What a server says is foreign text: whoever answers may repeat the password or a message, or write to the terminal. Everything of it
 * that is shown or kept passes here.
 */
export class ServerWords {
  readonly #username: string;
  /** Their forms, the latest password first. */
  #passwords: readonly (readonly [password: string, forms: readonly string[]])[] = [];

  constructor(username: string) {
    this.#username = username;
  }

  /** A password is used from now on. */
  used(password: string): void {
    // It is no secret, and the user's name stands in what RabbitMQ says.
    if (password === this.#username || this.#passwords[0]?.[0] === password) return;
    const others = this.#passwords.filter(([other]) => other !== password);
    const forms = secretForms(password, this.#username);
    this.#passwords = [[password, forms] as const, ...others].slice(0, MOST_PASSWORDS);
  }

  /** On one line, without the passwords and what looks like a body, of 400 characters at most. */
  text(said: unknown): string {
    const forms = this.#passwords.flatMap(([, all]) => all);
    const shown = thrownText(said).slice(0, MOST_READ).replace(QUOTED_BODY, "…");
    return oneLine(withoutPieces(shown, forms), MOST_TEXT);
  }

  /** An error of the client library or the network, to be kept as a cause. Our own errors stay as they are. */
  error(thrown: unknown): unknown {
    if (thrown === undefined || thrown === null || thrown instanceof ServerError || isMessagingError(thrown))
      return thrown;
    const { code } = thrown as { readonly code?: unknown };
    const shown = typeof code === "number" ? code : typeof code === "string" ? oneLine(code, MOST_NAME) : undefined;
    return new ServerError(oneLine(thrownClass(thrown), MOST_NAME), this.text(thrown), shown);
  }
}
