/** The id of a dead letter that begins as an option does. No option is so long. */
const LIKE_AN_OPTION = /^-[A-Za-z0-9_-]{21}$/;
const PREFIX = "id:";
/** In front of a word that is no option, whatever it begins with. No word of a command line holds it. */
const LITERAL = "\0";

/**
 * The words of a command line, with what would be misread written otherwise: an id of a dead letter that looks like an
 * option, behind `id:`; and stdin, `-`, together with the option that it is for. What stands behind `--` is
 * marked as no option, for {@link asWritten}: yargs would drop it where it begins with `-`.
 */
export function asArguments(words: readonly string[]): string[] {
  const read: string[] = [];
  for (const [index, word] of words.entries()) {
    if (word === "--") {
      const literal = words.slice(index + 1).map((one) => (one.startsWith("-") ? `${LITERAL}${one}` : one));
      return [...read, ...literal];
    }
    const before = read.at(-1);
    if (word === "-" && before?.startsWith("--") === true) read[read.length - 1] = `${before}=-`;
    else read.push(LIKE_AN_OPTION.test(word) ? `${PREFIX}${word}` : word);
  }
  return read;
}

/** A value as it was written: see {@link asArguments}. */
export function asWritten(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asWritten);
  return typeof value === "string" ? value.replaceAll(LITERAL, "") : value;
}

/** The id of a dead letter as it is; it may be written behind `id:`. */
export function entryId(text: string): string {
  return text.startsWith(PREFIX) ? text.slice(PREFIX.length) : text;
}
