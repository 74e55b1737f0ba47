import { MessagingError } from "../../core/errors.ts";

const LONGEST = 10_000;
const TOKEN = /\s*(?:(?<quoted>"(?:[^"\\]|\\.)*")|(?<sign>!=|!~|<=|>=|[=~<>(),])|(?<word>[^\s"=!~<>(),]+))/suy;

interface Token {
  readonly at: number;
  readonly kind: "quoted" | "sign" | "word";
  /** Of a quoted one what stands between the quotes. */
  readonly text: string;
  /** Whether nothing stands between it and the one before. */
  readonly joined: boolean;
}

/** The words and signs of a filter, taken one by one. */
export class FilterTokens {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #next = 0;

  /** Throws `invalid` for what can be no part of a filter. */
  constructor(text: string) {
    if (text.length > LONGEST) throw new MessagingError("invalid", `a filter has ${LONGEST} characters at most`);
    this.#text = text;
    this.#tokens = split(text);
  }

  get end(): boolean {
    return this.#next === this.#tokens.length;
  }

  /** Takes a keyword if it comes next. */
  takeWord(keyword: string): boolean {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "word" || token.text.toLowerCase() !== keyword) return false;
    this.#next++;
    return true;
  }

  /** Takes `header.<name>` if it comes next. */
  takeHeader(): string | undefined {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "word" || !/^header\./i.test(token.text)) return undefined;
    this.#next++;
    const name = token.text.slice("header.".length);
    if (name !== "") return name;
    const quoted = this.#tokens[this.#next];
    if (quoted?.kind !== "quoted" || !quoted.joined || quoted.text === "") return this.refuse("the name of a header");
    this.#next++;
    return quoted.text;
  }

  word(expected: string): string {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "word") return this.refuse(expected);
    this.#next++;
    return token.text;
  }

  /** `or` is what else could stand there. */
  operator(operators: readonly string[], or?: string): string {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "sign" || !operators.includes(token.text)) {
      return this.refuse([...operators, ...(or === undefined ? [] : [or])].join(" "));
    }
    this.#next++;
    return token.text;
  }

  /** A word or a quoted text that `read` can make something of. */
  value<Value>(expected: string, read: (text: string) => Value | undefined): Value {
    const token = this.#tokens[this.#next];
    const value = token === undefined || token.kind === "sign" ? undefined : read(token.text);
    if (value === undefined) return this.refuse(expected);
    this.#next++;
    return value;
  }

  /** `(a, b, …)` */
  list(): readonly string[] {
    this.operator(["("]);
    const values = [this.value("a text", (text) => text)];
    while (this.operator([",", ")"]) === ",") values.push(this.value("a text", (text) => text));
    return values;
  }

  refuse(expected: string): never {
    throw expectation(expected, this.#tokens[this.#next]?.at ?? this.#text.length, this.#text);
  }

  /** As {@link refuse}, for what was taken last. */
  refuseLast(expected: string): never {
    throw expectation(expected, this.#tokens[this.#next - 1]?.at ?? 0, this.#text);
  }
}

function split(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let from = 0;
  while (text.slice(from).trim() !== "") {
    TOKEN.lastIndex = from;
    const match = TOKEN.exec(text);
    const blank = /^\s*/.exec(text.slice(from))?.[0].length ?? 0;
    if (match === null) throw expectation("a word, a sign, or a text between two quotes", from + blank, text);
    const { quoted, sign, word } = match.groups ?? {};
    const at = from + blank;
    const joined = blank === 0 && from > 0;
    if (quoted !== undefined) tokens.push({ at, kind: "quoted", text: unquoted(quoted, at, text), joined });
    else if (sign !== undefined) tokens.push({ at, kind: "sign", text: sign, joined });
    else tokens.push({ at, kind: "word", text: word ?? "", joined });
    from = TOKEN.lastIndex;
  }
  return tokens;
}

function unquoted(quoted: string, at: number, text: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    throw expectation("a text in double quotes, escaped as in JSON", at, text);
  }
}

function expectation(expected: string, at: number, text: string): MessagingError {
  const found = at >= text.length ? "its end" : JSON.stringify(text.slice(at, at + 20));
  return new MessagingError(
    "invalid",
    `the filter cannot be read at character ${at + 1}, ${found}: expected ${expected}`,
  );
}
