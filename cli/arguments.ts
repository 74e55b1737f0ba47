/** The id of a dead letter that begins as an option does. No option is so long. */
const LIKE_AN_OPTION = /^-[A-Za-z0-9_-]{21}$/;
const PREFIX = "id:";

/**
 * The words of a command line, with what would be misread written otherwise: an id of a dead letter that looks like an
 * option, behind `id:`; and stdin, `-`, together with the option that it is for.
 */
export function asArguments(words: readonly string[]): string[] {
  const read: string[] = [];
  for (const word of words) {
    const before = read.at(-1);
    if (word === "-" && before?.startsWith("--") === true) read[read.length - 1] = `${before}=-`;
    else read.push(LIKE_AN_OPTION.test(word) ? `${PREFIX}${word}` : word);
  }
  return read;
}

/** The id of a dead letter as it is; it may be written behind `id:`. */
export function entryId(text: string): string {
  return text.startsWith(PREFIX) ? text.slice(PREFIX.length) : text;
}
