/** Texts, which are passed over, and numbers of a JSON text. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
const PARTS = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** Numbers with so many digits come back as they were. */
const SAFE_DIGITS = 15;
/** The most that `toPrecision` takes. */
const MOST_DIGITS = 100;

/**
 * The numbers of a JSON text, as it writes them, that JavaScript's own numbers do not keep: integers beyond 2^53, decimals
 * with more digits than a double has, and what is too large or too small. Other ways to write a double are the same number.
 */
export function inexactNumbers(text: string): string[] {
  return numbersIn(text).filter(isInexact);
}

/** Of the numbers that JavaScript does not keep, the first that a text made from another holds rounded. */
export function roundedNumber(before: string, after: string): string | undefined {
  const inexact = inexactNumbers(before);
  if (inexact.length === 0) return undefined;
  const written = numbersIn(after);
  const texts = new Set(written);
  const values = new Set(written.map(Number));
  return inexact.find((number) => !texts.has(number) && values.has(Number(number)));
}

function numbersIn(text: string): string[] {
  return (text.match(TOKENS) ?? []).filter((token) => !token.startsWith('"'));
}

function isInexact(text: string): boolean {
  if (text.length <= SAFE_DIGITS && !/[eE]/.test(text)) return false;
  const value = Number(text);
  const given = decimalOf(text);
  if (!Number.isFinite(value) || given === undefined) return true;
  if (isSame(given, decimalOf(String(value)))) return false;
  // Programs write a double with 17 digits, or with all that it has. An integer is meant as it is written.
  const isInteger = !/[.eE]/.test(text);
  return isInteger || given.digits.length > MOST_DIGITS || !isSame(given, decimalOf(precise(value, given)));
}

function precise(value: number, { digits }: Decimal): string {
  return value.toPrecision(Math.max(digits.length, 1));
}

interface Decimal {
  /** Without zeros at either end. */
  readonly digits: string;
  /** The place of the first digit. */
  readonly place: number;
}

function decimalOf(text: string): Decimal | undefined {
  const parts = PARTS.exec(text);
  if (parts === null) return undefined;
  const [, whole = "", fraction = "", exponent = "0"] = parts;
  const all = `${whole}${fraction}`;
  const first = all.search(/[1-9]/);
  if (first === -1) return { digits: "", place: 0 };
  return { digits: all.slice(first).replace(/0+$/, ""), place: whole.length - first + Number(exponent) };
}

function isSame(one: Decimal, other: Decimal | undefined): boolean {
  return one.digits === other?.digits && one.place === other.place;
}
