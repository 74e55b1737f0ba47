import { isMessagingError } from "../../core/errors.ts";
import { oneLine, thrownClass, thrownText } from "../../core/foreign.ts";
import { secretForms, withoutPieces } from "../../core/secret-forms.ts";

/** AMQP's own texts have at most 255 bytes, and amqplib puts a prefix before them. */
const MAX_TEXT = 400;

/** How much of a text is processed. Redaction makes it shorter. */
const MAX_READ = 4_096;

const MAX_NAME = 64;

/** A password function may return another password for each connection, and a new one before the old one expires. */
const MAX_PASSWORDS = 8;

/**
 * Where a text may begin to quote a message: JSON, also with escaped quotes, and bytes in Erlang notation. Erlang writes
 * bytes that are no printable text as numbers: `<<123,34>>`, or `[123,34,112,105]`. RabbitMQ's own texts put names
 * between single quotes.
 */
const QUOTED_BODY = /(?:<<\s*["\d]|[{[]\s*(?:\\*"|[{[])|\[\s*\d+\s*(?:[,|]\s*\d+\s*){2}).*$/s;

/** An error whose text may come from the server, reduced to what may be shown. */
class ServerError extends Error {
  override readonly name: string;
  /** The AMQP reply code, or Node's error code. */
  readonly code: number | string | undefined;

  constructor(name: string, text: string, code: number | string | undefined) {
    super(text);
    this.name = name;
    this.code = code;
  }
}

/**
 * Redacts foreign text: a server may repeat the password or a message, or write control characters to the terminal.
 * All text of a server goes through here before it is shown or kept.
 */
export class Redactor {
  readonly #username: string;
  /** The passwords with their encoded forms, latest first. */
  #passwords: readonly (readonly [password: string, forms: readonly string[]])[] = [];

  constructor(username: string) {
    this.#username = username;
  }

  /** Adds a password to redact. */
  addPassword(password: string): void {
    // A password equal to the user name is no secret, and RabbitMQ's texts contain the user name.
    if (password === this.#username || this.#passwords[0]?.[0] === password) return;
    const others = this.#passwords.filter(([other]) => other !== password);
    const forms = secretForms(password, this.#username);
    this.#passwords = [[password, forms] as const, ...others].slice(0, MAX_PASSWORDS);
  }

  /** Returns one line of at most 400 characters, without passwords and anything that looks like a message body. */
  text(given: unknown): string {
    const forms = this.#passwords.flatMap(([, all]) => all);
    const shown = thrownText(given).slice(0, MAX_READ).replace(QUOTED_BODY, "…");
    return oneLine(withoutPieces(shown, forms), MAX_TEXT);
  }

  /** Converts an error of the client library or the network so that it can be kept as a cause. Keeps our own errors. */
  error(thrown: unknown): unknown {
    if (thrown === undefined || thrown === null || thrown instanceof ServerError || isMessagingError(thrown))
      return thrown;
    const { code } = thrown as { readonly code?: unknown };
    const shown = typeof code === "number" ? code : typeof code === "string" ? oneLine(code, MAX_NAME) : undefined;
    return new ServerError(oneLine(thrownClass(thrown), MAX_NAME), this.text(thrown), shown);
  }
}
