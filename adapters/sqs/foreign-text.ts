import { oneLine } from "../../core/foreign.ts";

/** What a service said, as far as it may be shown: it is foreign text, and may repeat what was sent, with what is secret in it. */

const MOST_TEXT = 300;
const MOST_CODE = 100;
/**
 * From here on a text repeats a request: the canonical form that a signature is made of, which holds the session's token,
 * its headers, a form, or a body in JSON or XML.
 */
const REPEATS =
  /canonical (string|request)|string[- ]to[- ]sign|x-amz-|authorization( header)?['":]|(credential|signature|action)=|&\w+=|[{["<]/i;
/** As in "Value … for parameter MessageBody is invalid". */
const VALUE = /\bValue .* for parameter\b/;
/** Too long for a word: a token, a receipt, a body in base64. The name of a resource is shown. */
const LONG = /(?<!\S)(?!\(?(?:arn:|https?:))\S{40,}/g;
const UNPRINTABLE = /[^\x20-\x7e]/g;

/** The first line of a message, without what repeats the request, of 300 characters at most. */
export function shownText(text: string): string {
  const [line = ""] = text
    .slice(0, 10 * MOST_TEXT)
    .trimStart()
    .split(/[\r\n]/, 1);
  const repeats = line.search(REPEATS);
  const own = (repeats < 0 ? line : line.slice(0, repeats))
    .replace(VALUE, "The value for parameter")
    .replaceAll(LONG, "…");
  return repeats >= 0 ? `${oneLine(own, MOST_TEXT).trimEnd()}…` : oneLine(own, MOST_TEXT);
}

/** A code or an id, printable, and of 100 characters at most. */
export function shownCode(code: string): string {
  return code.slice(0, MOST_CODE).replaceAll(UNPRINTABLE, "?");
}
