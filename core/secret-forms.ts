/** Passwords and tokens in the forms in which somebody may quote them. */

const MASK = "***";
/** Shorter ones stand in any text by chance. */
const SHORTEST = 4;
/** So much of a longer one is masked on its own: a text that is cut may hold no more of it. */
const SHORTEST_PIECE = 12;

/**
 * A secret as it is, as JSON, in a URL, in hexadecimal digits and in base64, alone and behind anything else, as in HTTP's
 * Basic and SASL's PLAIN. Empty for a secret that is too short to be told from other text.
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

/** A text without any of these forms: the longest first, so that none leaves its end behind. */
export function withoutForms(text: string, forms: Iterable<string>): string {
  return [...forms]
    .sort((one, other) => other.length - one.length)
    .reduce((left, form) => left.replaceAll(form, MASK), text);
}

/** As {@link withoutForms}, and without long pieces of them. For short texts: it takes time by both lengths. */
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

/** How many characters from here on are a piece of a form; 0 if too few are. */
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

/** What of the base64 of a text is the same whatever stands before and behind it, for each place in a group of three bytes. */
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
