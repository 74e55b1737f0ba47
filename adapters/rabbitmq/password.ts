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
  let given: unknown;
  try {
    given = await within(timeoutMs, `give a password, by ${what}`, Promise.resolve().then(password));
  } catch (cause) {
    throw new MessagingError("unauthorized", `${what} failed, so there is none to log in with; see the cause`, {
      cause,
    });
  }
  const { value, expiresAt } = typeof given === "string" ? { value: given } : ((given ?? {}) as Partial<Given>);
  if (typeof value !== "string" || value === "") {
    throw new MessagingError("unauthorized", `${what} gave no text; let it give one, or { value, expiresAt }`);
  }
  const until = expiresAt instanceof Date ? expiresAt.getTime() : expiryOf(value);
  return { value, expiresAt: until !== undefined && Number.isFinite(until) ? until : undefined };
}

interface Given {
  readonly value: unknown;
  readonly expiresAt?: unknown;
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
