/** Finds passwords and tokens in texts, in the forms in which errors may quote them. */

const MASK = "***";
/** Shorter texts occur anywhere by chance. */
const SHORTEST = 4;
/** Pieces from this length on are masked too, because a text that was cut may have only a piece. */
const SHORTEST_PIECE = 12;

/**
 * The forms of a secret: as it is, in JSON, in a URL, in hexadecimal digits and in base64. Some are with the user before
 * it, as in HTTP Basic and SASL PLAIN. Empty for a secret that is too short to be found reliably.
 */
export function secretForms(secret: string, user?: string): readonly string[] {
  if (secret.length < SHORTEST) return [];
  const logins = user === undefined ? [] : [`${user}:${secret}`, `\0${user}\0${secret}`, `${user}\0${secret}`];
  const encoded = [secret, ...logins].flatMap((text) => {
    const bytes = Buffer.from(text);
    const hex = bytes.toString("hex");
    return [hex, hex.toUpperCase(), ...bothAlphabets(bytes.toString("base64").replace(/=+$/, ""))];
  });
  const inUrl = encodeURIComponent(secret.toWellFormed());
  const strictly = inUrl.replace(/[!'()*~]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
  const urls = [inUrl, strictly].flatMap((url) => [url, lowerCodes(url), url.replaceAll("%20", "+")]);
  const forms = [secret, JSON.stringify(secret).slice(1, -1), ...urls, ...encoded, ...insideBase64(secret)];
  return [...new Set(forms)].filter((form) => form.length >= SHORTEST);
}

/** Masks these forms in a text, the longest first, so that no rest of one remains. */
export function withoutForms(text: string, forms: Iterable<string>): string {
  return [...forms]
    .sort((one, other) => other.length - one.length)
    .reduce((left, form) => left.replaceAll(form, MASK), text);
}

/** As {@link withoutForms}, and masks long pieces of them too. Only for short texts: it is slow. */
export function withoutPieces(given: string, forms: readonly string[]): string {
  const text = withoutForms(given, forms);
  const long = forms.filter((form) => form.length > SHORTEST_PIECE);
  let shown = "";
  for (let at = 0; at < text.length; ) {
    const length = Math.max(0, ...long.map((form) => pieceAt(text, at, form)));
    shown += length > 0 ? MASK : text.charAt(at);
    at += Math.max(1, length);
  }
  return shown;
}

/** The length of the piece of a form at this index; 0 if it is too short. */
function pieceAt(text: string, at: number, form: string): number {
  const start = text.slice(at, at + SHORTEST_PIECE);
  if (start.length < SHORTEST_PIECE) return 0;
  let from = form.indexOf(start);
  if (from < 0) return 0;
  let length = SHORTEST_PIECE;
  while (at + length < text.length) {
    from = form.indexOf(text.slice(at, at + length + 1), from);
    if (from < 0) break;
    length++;
  }
  return length;
}

/** The base64 of a secret within a longer text, for each offset in a group of three bytes. */
function insideBase64(secret: string): readonly string[] {
  return [0, 1, 2].flatMap((before) => {
    const whole = Buffer.concat([Buffer.alloc(before), Buffer.from(secret)]);
    const own = whole.toString("base64").slice(before === 0 ? 0 : before + 1, Math.floor((whole.length * 8) / 6));
    return bothAlphabets(own);
  });
}

function bothAlphabets(base64: string): readonly string[] {
  return [base64, base64.replaceAll("+", "-").replaceAll("/", "_")];
}

function lowerCodes(url: string): string {
  return url.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
}
