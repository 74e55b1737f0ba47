/** What the value of an option looks like in the query of a URL. */
export type Parameter =
  /** A whole number from `least` to `most`, or `also`. */
  | { readonly kind: "integer"; readonly least: number; readonly most: number; readonly also?: number }
  /** `true` or `false`. */
  | { readonly kind: "flag" }
  /** Any text that is not empty. */
  | { readonly kind: "text" }
  /** What it looks like: a whole number, `true` or `false`, and a text otherwise. */
  | { readonly kind: "scalar" }
  /** One of these. */
  | { readonly kind: "choice"; readonly of: readonly string[] }
  /** An object of options, each written behind a dot: `reconnect.firstMs=100`. */
  | { readonly kind: "parts"; readonly of: Readonly<Record<string, Parameter>> }
  /** An object of whatever names, each written behind a dot: `topicConfiguration.segment.bytes=104857600`. */
  | { readonly kind: "names"; readonly each: Parameter }
  /** Said elsewhere than in the query: where. */
  | { readonly kind: "elsewhere"; readonly where: string };

/** Where each option of an adapter is said. Exhaustive: a new option does not compile without its place. */
export type Parameters<Options> = Readonly<Record<keyof Options, Parameter>>;

const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER, also?: number): Parameter {
  return { kind: "integer", least, most, ...(also === undefined ? {} : { also }) };
}

/** A time that a timer can take, in milliseconds. */
export function timeoutMs(least = 1): Parameter {
  return integer(least, LONGEST_TIMEOUT_MS);
}

export function flag(): Parameter {
  return { kind: "flag" };
}

export function text(): Parameter {
  return { kind: "text" };
}

export function scalar(): Parameter {
  return { kind: "scalar" };
}

export function choice<Choice extends string>(...of: readonly Choice[]): Parameter {
  return { kind: "choice", of };
}

/** The waits between attempts to connect, the same on every broker that has connections. */
export function reconnect(): Parameter {
  return { kind: "parts", of: { firstMs: timeoutMs(), maxMs: timeoutMs() } };
}

export function parts(of: Readonly<Record<string, Parameter>>): Parameter {
  return { kind: "parts", of };
}

export function names(each: Parameter): Parameter {
  return { kind: "names", each };
}

export function elsewhere(where: string): Parameter {
  return { kind: "elsewhere", where };
}

/** What can be written in the query, by name, in the table's order; `name.…` where the names are free. */
export function writtenNames(parameters: Readonly<Record<string, Parameter>>): string[] {
  return Object.entries(parameters).flatMap(([name, parameter]) => {
    if (parameter.kind === "elsewhere") return [];
    if (parameter.kind === "names") return [`${name}.…`];
    if (parameter.kind === "parts") return writtenNames(parameter.of).map((part) => `${name}.${part}`);
    return [name];
  });
}

/** What a value has to be, for people. */
export function takes(parameter: Parameter): string {
  switch (parameter.kind) {
    case "integer":
      return `an integer ${range(parameter)}`;
    case "flag":
      return "true or false";
    case "text":
    case "scalar":
      return "a text that is not empty";
    case "choice":
      return `one of ${parameter.of.join(", ")}`;
    case "parts":
      return `its parts, as in ${writtenNames(parameter.of)
        .map((part) => `.${part}`)
        .join(" and ")}`;
    case "names":
      return "a name behind a dot, as in .name=value";
    case "elsewhere":
      return parameter.where;
  }
}

function range({ least, most, also }: Parameter & { readonly kind: "integer" }): string {
  const bounded = most === Number.MAX_SAFE_INTEGER ? `from ${least} up` : `from ${least} to ${most}`;
  return also === undefined ? bounded : `${bounded}, or ${also}`;
}
