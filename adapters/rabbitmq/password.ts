import { MessagingError } from "../../core/errors.ts";
import { within } from "./deadline.ts";
import type { RabbitMQPasswordProvider, Settings } from "./options.ts";

/** A password or token, and until when it can be used. */
export interface Password {
  readonly value: string;
  /** Milliseconds since 1970; undefined where nobody says so. */
  readonly expiresAt: number | undefined;
}

/** Asks for the password where it is a function's to say. Rejects with `unauthorized` if that fails. */
export async function currentPassword(
  { password, words }: Pick<Settings, "password" | "words">,
  timeoutMs: number,
): Promise<Password> {
  const current =
    typeof password === "string" ? { value: password, expiresAt: undefined } : await asked(password, timeoutMs);
  words.used(current.value);
  return current;
}

async function asked(password: RabbitMQPasswordProvider, timeoutMs: number): Promise<Password> {
  const what = "the function that was given to rabbitmq() as password";
  let read: Given;
  try {
    read = readGiven(await within(timeoutMs, `give a password, by ${what}`, Promise.resolve().then(password)));
  } catch (cause) {
    throw new MessagingError("unauthorized", `${what} failed, so there is none to log in with; see the cause`, {
      cause,
    });
  }
  const { value, until } = read;
  if (typeof value !== "string" || value === "") {
    throw new MessagingError("unauthorized", `${what} gave no text; let it give one, or { value, expiresAt }`);
  }
  const expiresAt = until ?? expiryOf(value);
  return { value, expiresAt: expiresAt !== undefined && Number.isFinite(expiresAt) ? expiresAt : undefined };
}

/** What a function gave, as far as it can be read. */
interface Given {
  readonly value: unknown;
  /** Milliseconds since 1970. */
  readonly until: number | undefined;
}

/** Throws what looking at it throws: it is an object of the caller's. */
function readGiven(given: unknown): Given {
  if (typeof given === "string") return { value: given, until: undefined };
  const { value, expiresAt } = (given ?? {}) as { readonly value?: unknown; readonly expiresAt?: unknown };
  return { value, until: expiresAt instanceof Date ? expiresAt.getTime() : undefined };
}

const JSON_WEB_TOKEN = /^[\w-]+\.([\w-]+)\.[\w-]*$/;

/** What a JSON Web Token says of its end, in milliseconds. */
function expiryOf(value: string): number | undefined {
  const [, claims] = JSON_WEB_TOKEN.exec(value) ?? [];
  if (claims === undefined) return undefined;
  try {
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString("utf8")) as { readonly exp?: unknown };
    return typeof exp === "number" ? exp * 1_000 : undefined;
  } catch {
    // A password with two dots in it.
    return undefined;
  }
}
