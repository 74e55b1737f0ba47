import type { Refuse } from "./refuse.ts";

/** What a URL says, its query not looked at yet. */
export interface UrlParts {
  /** In lower case, without the colon. */
  readonly scheme: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** What stands between the credentials and the path: one host, or several. Empty if there is none. */
  readonly hosts: string;
  /** With its slash; empty if there is none. */
  readonly path: string;
  readonly query: string;
  /** All of it but the query, as it was given. */
  readonly beforeQuery: string;
}

/** RFC 3986, appendix B. Node's own parser takes one host only, and Kafka has several. */
const URL_PARTS = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(#.*)?$/i;
const CREDENTIALS = /^([^:]*)(?::(.*))?$/;
const ENCODE = "encode special characters, in user and password above all, with encodeURIComponent";

/** The parts of a URL. Throws a refusal that quotes nothing: any part of a malformed URL may hold the password. */
export function urlParts(url: string, refuse: Refuse): UrlParts {
  if (/\s/.test(url)) throw refuse("got a URL with white space in it");
  const [, scheme, authority, path = "", query = "", fragment] = URL_PARTS.exec(url) ?? [];
  if (scheme === undefined) throw refuse("got a text that begins with no scheme");
  if (fragment !== undefined) throw refuse(`got a URL with a "#" in it; ${ENCODE}`);
  // Only so can nothing that is said about the rest be a piece of the password.
  if (`${path}${query}`.includes("@")) throw refuse(`got a URL with an "@" behind its host; ${ENCODE}`);
  if (authority === undefined && path !== "") throw refuse('got a URL without the "//" behind its scheme');
  const [hosts = "", userinfo = "", ...more] = (authority ?? "").split("@").reverse();
  if (more.length > 0) throw refuse(`got a URL with more than one "@" before its path; ${ENCODE}`);
  const [, username = "", password = ""] = CREDENTIALS.exec(userinfo) ?? [];
  return {
    scheme: scheme.toLowerCase(),
    username: decoded(username, refuse) || undefined,
    password: decoded(password, refuse) || undefined,
    hosts,
    path,
    query,
    beforeQuery: url.split("?", 1)[0] ?? "",
  };
}

function decoded(text: string, refuse: Refuse): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(`got a URL with a malformed percent code; ${ENCODE}`);
  }
}
