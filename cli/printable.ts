/** What a terminal might obey, or show as something else than it is: controls, marks of direction, line separators. */
const CONTROLS = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
/** The same, but for the ends of lines. */
const CONTROLS_IN_LINES = /(?!\n)[\p{Cc}\p{Cf}\u2028\u2029]/gu;
/** The colours that `paintOf` writes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: this is how a terminal is told of colours
const COLOUR = /(\u001b\[\d{1,2}m)/;

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code > 0xffff) return `\\u{${hexadecimal(code, 5)}}`;
  return SHORT[character] ?? (code < 0x100 ? `\\x${hexadecimal(code, 2)}` : `\\u${hexadecimal(code, 4)}`);
}

function hexadecimal(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}

/** Anybody's text on one line, safe to print: whatever a terminal might obey is shown as an escape. */
export function printable(text: string): string {
  return text.toWellFormed().replace(CONTROLS, escaped);
}

/** As {@link printable}, with the ends of lines kept. */
export function printableLines(text: string): string {
  return text.toWellFormed().replace(CONTROLS_IN_LINES, escaped);
}

/** JSON on one line that is as safe to print; `JSON.parse` gives back the same. */
export function printableJson(value: object): string {
  return JSON.stringify(value).replace(CONTROLS, (character) =>
    Array.from({ length: character.length }, (_, at) => `\\u${hexadecimal(character.charCodeAt(at), 4)}`).join(""),
  );
}

/** The last net before a terminal: our own colours and ends of lines go through, where there are colours, and no other control. */
export function netted(text: string, colours: boolean): string {
  if (!colours) return printableLines(text);
  return text
    .split(COLOUR)
    .map((part, index) => (index % 2 === 1 ? part : printableLines(part)))
    .join("");
}

/** At most so many characters of a text, on one line. */
export function preview(text: string, most: number): string {
  const line = printable(text.slice(0, most + 1));
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}
