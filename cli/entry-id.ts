/** The id of a dead letter that begins as an option does. No option is so long. */
const LIKE_AN_OPTION = /^-[A-Za-z0-9_-]{21}$/;
const PREFIX = "id:";

/** A word of a command line, with what would be read as an option, and is the id of a dead letter, behind `id:`. */
export function asArgument(word: string): string {
  return LIKE_AN_OPTION.test(word) ? `${PREFIX}${word}` : word;
}

/** The id of a dead letter as it is; it may be written behind `id:`. */
export function entryId(text: string): string {
  return text.startsWith(PREFIX) ? text.slice(PREFIX.length) : text;
}
