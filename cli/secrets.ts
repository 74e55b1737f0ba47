const MASK = "***";
/** Shorter ones stand in any text by chance. */
const SHORTEST = 4;
/** Names of variables and URL parameters whose values are nobody's to read. */
const SECRET_NAME = /pass(word|wd)?$|secret|token|credential|api_?key|access_?key$/i;

/** A URL as it may be shown: without user, password, and the values of parameters whose names tell of a secret. */
export function maskUrl(url: string): string {
  // By hand: what cannot be parsed, such as several hosts, may hold a password as well.
  return url
    .replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, `$1${MASK}@`)
    .replace(/([?&])([^=&#]+)=([^&#]*)/g, (all, mark: string, name: string) =>
      SECRET_NAME.test(name) ? `${mark}${name}=${MASK}` : all,
    );
}

/** Whether a text is a URL of a broker, and no name. */
export function isUrl(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/i.test(text);
}

/** The secrets that a URL holds, as they are written and as they are meant. */
function secretsIn(url: string): string[] {
  const [, login = ""] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)@/i.exec(url) ?? [];
  const password = login.includes(":") ? [login.slice(login.indexOf(":") + 1)] : [];
  const values = [...url.matchAll(/[?&]([^=&#]+)=([^&#]*)/g)]
    .filter(([, name = ""]) => SECRET_NAME.test(name))
    .map(([, , value = ""]) => value);
  return [...password, ...values].flatMap((secret) => [secret, decoded(secret)]);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Takes known secrets out of what is said of errors. A net: errors of the library hold none, those of others may. */
export class Secrets {
  readonly #known = new Set<string>();

  /** Of an environment: the values of variables whose names tell of a secret, and the passwords in URLs. */
  constructor(env: Readonly<Record<string, string | undefined>>) {
    for (const [name, value] of Object.entries(env)) {
      if (value === undefined) continue;
      if (SECRET_NAME.test(name)) this.#add(value);
      if (value.includes("://")) this.addUrl(value);
    }
  }

  addUrl(url: string): void {
    for (const secret of secretsIn(url)) this.#add(secret);
  }

  #add(secret: string): void {
    if (secret.length >= SHORTEST) this.#known.add(secret);
  }

  /** The text without any of them, longest first, so that none leaves its end behind. */
  masked(text: string): string {
    return [...this.#known]
      .sort((one, other) => other.length - one.length)
      .reduce((left, secret) => left.replaceAll(secret, MASK), text);
  }
}
