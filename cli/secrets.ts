import { secretForms, withoutForms } from "../core/secret-forms.ts";

const MASK = "***";
/** Names of variables and URL parameters with secret values. */
const SECRET_NAME = /pass(word|wd)?$|secret|token|credential|api_?key|access_?key$/i;

/** The beginning of a URL with missing slashes, as in `amqp:user:password@host`. */
const TOO_FEW_SLASHES = /^([a-z][a-z0-9+.-]*:)\/?(?!\/)(?=.*@)/is;
/** For a text that is one URL: its password may have any characters. */
const WHOLE_LOGIN = /^[a-z][a-z0-9+.-]*:\/\/(.*)@/is;
const BARE_LOGIN = /^([\w.%+-]+):(\S+)@[^\s@]*$/;
const PARAMETER = /([?&])([\w.-]{1,64})=([^&#\s"'<>]*)/g;

/**
 * Masks a text for output: users and passwords in URLs, and the values of parameters with secret names. Masks rather too
 * much. Takes linear time, since the text may come from outside.
 */
export function redacted(text: string): string {
  let shown = "";
  let from = 0;
  for (const [start, end] of loginsIn(text)) {
    shown += `${text.slice(from, start)}${MASK}`;
    from = end;
  }
  shown += text.slice(from);
  return shown.replace(PARAMETER, (all, mark: string, name: string) =>
    SECRET_NAME.test(name) ? `${mark}${name}=${MASK}` : all,
  );
}

/** Masks JSON as {@link redacted} does, except bodies and headers of messages, which are shown as they are. */
export function redactedJson(json: object): object {
  const text = JSON.stringify(json);
  return redacted(text) === text ? json : (withoutLogins(JSON.parse(text)) as object);
}

function withoutLogins(value: unknown): unknown {
  if (typeof value === "string") return redacted(value);
  if (Array.isArray(value)) return value.map(withoutLogins);
  if (typeof value !== "object" || value === null) return value;
  const own = Object.entries(value).map(([name, one]) => [name, CONTENT.includes(name) ? one : withoutLogins(one)]);
  return Object.fromEntries(own);
}

const CONTENT: readonly string[] = ["body", "headers"];

/** Masks a URL, also a malformed one; see {@link redacted}. */
export function maskUrl(url: string): string {
  return redacted(url.replace(TOO_FEW_SLASHES, "$1//"));
}

/** Whether a text is a URL, not a name. */
export function isUrl(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/i.test(text);
}

/** The positions of users and passwords in a text, up to the `@`. */
function* loginsIn(text: string): Generator<readonly [from: number, to: number]> {
  const ends = /[\s"'<>`]|$/g;
  let end = -1;
  let lastAt = -1;
  for (let at = text.indexOf("://"); at !== -1; ) {
    const start = at + "://".length;
    if (start > end) {
      ends.lastIndex = start;
      end = ends.exec(text)?.index ?? text.length;
      lastAt = text.lastIndexOf("@", end - 1);
    }
    const [authority = ""] = text.slice(start, end).split(/[/?#]/, 1);
    // A password may have unescaped characters, such as `/` and `@`.
    const login = authority.includes(":") ? lastAt : start + authority.lastIndexOf("@");
    if (login >= start) yield [start, login];
    at = text.indexOf("://", Math.max(start, login));
  }
}

/** A secret with its user. */
interface Secret {
  readonly value: string;
  readonly user?: string | undefined;
}

/** The secrets in URLs of a text, as written and decoded. */
function secretsIn(given: string): Secret[] {
  const text = given.replace(TOO_FEW_SLASHES, "$1//");
  const [, whole = ""] = WHOLE_LOGIN.exec(text) ?? [];
  const logins = [whole, ...[...loginsIn(text)].map(([from, to]) => text.slice(from, to))];
  const passwords = logins
    .filter((login) => login.includes(":"))
    .map((login): Secret => {
      const colon = login.indexOf(":");
      return { value: login.slice(colon + 1), user: decoded(login.slice(0, colon)) };
    });
  const values = [...text.matchAll(PARAMETER)]
    .filter(([, , name = ""]) => SECRET_NAME.test(name))
    .map(([, , , value = ""]): Secret => ({ value }));
  return [...passwords, ...values].flatMap((secret) => [secret, { ...secret, value: decoded(secret.value) }]);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** How many secrets of a text are looked for in the rest of it, so that a long text takes linear time. */
const MOST_OWN = 16;

/** Masks known secrets in errors. Errors of the library have none; those of others may. */
export class Secrets {
  readonly #known = new Set<string>();

  /** Collects the values of variables with secret names, and the passwords in URLs. */
  constructor(env: Readonly<Record<string, string | undefined>>) {
    for (const [name, value] of Object.entries(env)) {
      if (value === undefined) continue;
      if (SECRET_NAME.test(name)) this.#add({ value });
      if (value.includes("://")) this.addUrlsIn(value);
    }
  }

  /** Adds the secrets of a word of the command line: of URLs, and of `user:password@host`. */
  addWord(word: string): void {
    this.addUrlsIn(word);
    const [, user, value] = BARE_LOGIN.exec(word) ?? [];
    if (value !== undefined) for (const one of [value, decoded(value)]) this.#add({ value: one, user });
  }

  addUrlsIn(text: string): void {
    for (const secret of secretsIn(text)) this.#add(secret);
  }

  #add({ value, user }: Secret): void {
    for (const form of secretForms(value, user)) this.#known.add(form);
  }

  /**
   * Masks all known secrets, in the forms of {@link secretForms}, and applies {@link redacted}. A password in a URL of the text
   * is masked wherever the text has it.
   */
  masked(text: string): string {
    const own = secretsIn(text)
      .slice(0, MOST_OWN)
      .flatMap(({ value, user }) => [...secretForms(value, user)]);
    return redacted(withoutForms(text, new Set([...this.#known, ...own])));
  }
}
