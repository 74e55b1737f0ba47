/** A server's regular expression for names, which can be evaluated here. */
export interface NamePattern {
  test(name: string): boolean;
  /** About the most steps for a name of this length. */
  steps(length: number): number;
}

/** The number of ways through a part of an expression: `factor * (length + 1) ** power`. */
interface Ways {
  readonly factor: number;
  readonly power: number;
}

const MAX_CHARACTERS = 1_000;
/** The JavaScript engine expands counted repetitions. */
const MAX_SIZE = 4_000;
const ONE: Ways = { factor: 1, power: 0 };
const UNBOUNDED: Ways = { factor: Number.POSITIVE_INFINITY, power: 0 };

/** Escapes with one meaning in Perl's expressions, which RabbitMQ uses, and in JavaScript's; not back references. */
const SHARED_ESCAPE = /^[dDwWsSbBtnrfv\W_]$/;
const GROUP = /\((?:\?(?:[:=!]|<[=!]))?/y;
const QUANTIFIER = /(?:[*+?]|\{(\d{1,6})(,(\d{1,6})?)?\})\??/y;

/**
 * Parses a pattern and bounds the steps of a test: a running expression cannot be stopped, and some that are fast on
 * the server never end here. Undefined if there is no bound, or if Perl and JavaScript may differ.
 */
export function namePattern(source: string): NamePattern | undefined {
  if (source.length > MAX_CHARACTERS) return undefined;
  try {
    const { ways, size, isAnchored } = new Reader(source).all();
    const expression = new RegExp(source);
    const power = ways.power + (isAnchored ? 0 : 1);
    return {
      test: (name) => expression.test(name),
      steps: (length) => size * ways.factor * (length + 1) ** power,
    };
  } catch {
    return undefined;
  }
}

interface Part {
  readonly ways: Ways;
  /** The length of the expression after counted repetitions are expanded. */
  readonly size: number;
  readonly isAnchored: boolean;
}

class Reader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  all(): Part {
    const part = this.#choice();
    if (this.#at < this.#source.length) throw new SyntaxError("a group ends that did not begin");
    return part;
  }

  #choice(): Part {
    let { ways, size, isAnchored } = this.#sequence();
    while (this.#source[this.#at] === "|") {
      this.#at++;
      const next = this.#sequence();
      ways = sum(ways, next.ways);
      size += next.size;
      isAnchored &&= next.isAnchored;
    }
    return { ways, size, isAnchored };
  }

  #sequence(): Part {
    let ways = ONE;
    let size = 1;
    const isAnchored = this.#source[this.#at] === "^";
    while (this.#at < this.#source.length && this.#source[this.#at] !== "|" && this.#source[this.#at] !== ")") {
      const atom = this.#quantified(this.#atom());
      ways = product(ways, atom.ways);
      size += atom.size;
      if (size > MAX_SIZE) throw new RangeError("too large");
    }
    return { ways, size, isAnchored };
  }

  #atom(): Part {
    const character = this.#source[this.#at];
    if (character === "(") return this.#group();
    if (character === "[") this.#set();
    else if (character === "\\") this.#escape();
    // A brace without a count and a quantifier of nothing are read differently.
    else if (character === undefined || "*+?{".includes(character)) throw new SyntaxError("nothing to repeat");
    else this.#at++;
    return { ways: ONE, size: 1, isAnchored: false };
  }

  #group(): Part {
    const opening = this.#match(GROUP)?.[0];
    const inner = this.#source[this.#at] === "?" ? undefined : this.#choice();
    if (opening === undefined || inner === undefined || this.#source[this.#at] !== ")") {
      throw new SyntaxError("not a group that both know");
    }
    this.#at++;
    return inner;
  }

  #set(): void {
    this.#at++;
    if (this.#source[this.#at] === "^") this.#at++;
    if (this.#source[this.#at] === "]") throw new SyntaxError("an empty set in JavaScript, a bracket in Perl");
    while (this.#source[this.#at] !== "]") {
      const character = this.#source[this.#at];
      if (character === undefined || character === "[") throw new SyntaxError("perhaps a named set");
      if (character === "\\") this.#escape();
      else this.#at++;
    }
    this.#at++;
  }

  #escape(): void {
    if (!SHARED_ESCAPE.test(this.#source[this.#at + 1] ?? "A")) throw new SyntaxError("not an escape that both know");
    this.#at += 2;
  }

  #quantified(atom: Part): Part {
    const found = this.#match(QUANTIFIER);
    if (found === undefined) return atom;
    const [text, least = "0", comma, most = comma === undefined ? least : undefined] = found;
    const isCounted = text.startsWith("{");
    const to = isCounted
      ? Number(most ?? Number.POSITIVE_INFINITY)
      : text.startsWith("?")
        ? 1
        : Number.POSITIVE_INFINITY;
    const from = isCounted ? Number(least) : text.startsWith("+") ? 1 : 0;
    const copies = Math.max(1, Number.isFinite(to) ? to : from);
    return { ways: repeated(atom.ways, from, to), size: atom.size * copies, isAnchored: false };
  }

  #match(expression: RegExp): RegExpExecArray | undefined {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#source) ?? undefined;
    if (found !== undefined) this.#at += found[0].length;
    return found;
  }
}

/** The choice of a count multiplies with the choices of each repetition. Without a limit there is no bound. */
function repeated(ways: Ways, from: number, to: number): Ways {
  const hasChoices = ways.factor > 1 || ways.power > 0;
  if (!hasChoices)
    return Number.isFinite(to) ? { factor: Math.max(1, to - from + 1), power: 0 } : { factor: 1, power: 1 };
  if (!Number.isFinite(to)) return UNBOUNDED;
  const each = to === 0 ? ONE : { factor: ways.factor ** to, power: ways.power * to };
  return { factor: each.factor * Math.max(1, to - from + 1), power: each.power };
}

function product(one: Ways, other: Ways): Ways {
  return { factor: one.factor * other.factor, power: one.power + other.power };
}

function sum(one: Ways, other: Ways): Ways {
  return { factor: one.factor + other.factor, power: Math.max(one.power, other.power) };
}
