import type { KafkaOptions } from "../../adapters/kafka/options.ts";
import type { MemoryOptions } from "../../adapters/memory/index.ts";
import type { RabbitMQOptions } from "../../adapters/rabbitmq/options.ts";
import type { SqsOptions } from "../../adapters/sqs/options.ts";
import type { Adapter } from "../../core/adapter.ts";
import { checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";

/** The parts of a URL. The query is not parsed. */
interface UrlParts {
  /** In lower case, without the colon. */
  readonly scheme: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** The part between credentials and path: one host or several; empty if there is none. */
  readonly hosts: string;
  /** With its slash; empty if there is none. */
  readonly path: string;
  readonly query: string;
  /** The URL as given, without its query. */
  readonly beforeQuery: string;
}

/** RFC 3986, appendix B. Node's parser allows one host only, and Kafka has several. */
const URL_PARTS = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(#.*)?$/i;
const CREDENTIALS = /^([^:]*)(?::(.*))?$/;
const ENCODE = "encode special characters, in user and password above all, with encodeURIComponent";

/** Parses a URL. Errors quote nothing: any part of a malformed URL may be the password. */
export function urlParts(url: string, refuse: Refuse): UrlParts {
  if (/\s/.test(url)) throw refuse("got a URL with white space in it");
  const [, scheme, authority, path = "", query = "", fragment] = URL_PARTS.exec(url) ?? [];
  if (scheme === undefined) throw refuse("got a text without a scheme");
  if (fragment !== undefined) throw refuse(`got a URL with a "#" in it; ${ENCODE}`);
  // Otherwise later errors could quote a part of the password.
  if (`${path}${query}`.includes("@")) throw refuse(`got a URL with an "@" after its host; ${ENCODE}`);
  if (authority === undefined && path !== "") throw refuse('got a URL without "//" after its scheme');
  const [hosts = "", userinfo = "", ...more] = (authority ?? "").split("@").reverse();
  if (more.length > 0) throw refuse(`got a URL with more than one "@" before its path; ${ENCODE}`);
  const [, username = "", password = ""] = CREDENTIALS.exec(userinfo) ?? [];
  return {
    scheme: scheme.toLowerCase(),
    username: decoded(username, refuse) || undefined,
    password: decoded(password, refuse) || undefined,
    hosts,
    path,
    query,
    beforeQuery: url.split("?", 1)[0] ?? "",
  };
}

function decoded(text: string, refuse: Refuse): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(`got a URL with a malformed percent-encoding; ${ENCODE}`);
  }
}

/** The share of typing errors in a name that is still recognised. */
const MOST_ERRORS = 1 / 3;
const SHORTEST_BEGINNING = 4;

/**
 * The most similar of the names: with the fewest typing errors, or with the same beginning. Ignores case, `-` and `_`.
 * Undefined if none is similar.
 */
export function nearest(given: string, names: readonly string[]): string | undefined {
  const wanted = plain(given);
  const ranked = names
    .map((name) => ({ name, errors: editDistance(wanted, plain(name)), alike: begunAlike(wanted, plain(name)) }))
    .filter(({ name, errors, alike }) => alike || errors <= Math.max(1, Math.floor(plain(name).length * MOST_ERRORS)))
    .sort((one, other) => one.errors - other.errors);
  return ranked[0]?.name;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, "");
}

function begunAlike(one: string, other: string): boolean {
  const [shorter, longer] = one.length < other.length ? [one, other] : [other, one];
  return shorter.length >= SHORTEST_BEGINNING && longer.startsWith(shorter);
}

/** The optimal string alignment distance (Damerau and Levenshtein). */
function editDistance(one: string, other: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const same = one[row - 1] === other[column - 1];
      const swapped = one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      current[column] = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (same ? 0 : 1),
        swapped ? at(beforeLast, column - 2) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = current;
  }
  return at(last, other.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}

/** The form of an option in the query of a URL. */
export type Parameter =
  /** An integer from `least` to `most`, or `also`. */
  | { readonly kind: "integer"; readonly least: number; readonly most: number; readonly also?: number }
  /** `true` or `false`. */
  | { readonly kind: "flag" }
  /** A non-empty text. */
  | { readonly kind: "text" }
  /** An integer, `true` or `false`, otherwise a text. */
  | { readonly kind: "scalar" }
  /** One of these values. */
  | { readonly kind: "choice"; readonly of: readonly string[] }
  /** An object of options, separated by dots: `reconnect.firstMs=100`. */
  | { readonly kind: "parts"; readonly of: Readonly<Record<string, Parameter>> }
  /** An object with free names, separated by dots: `topicConfiguration.segment.bytes=104857600`. */
  | { readonly kind: "names"; readonly each: Parameter }
  /** Not possible in the query. `where` says what to use. */
  | { readonly kind: "elsewhere"; readonly where: string };

/** The form of each option of an adapter. Exhaustive: a new option needs one to compile. */
type Parameters<Options> = Readonly<Record<keyof Options, Parameter>>;

const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER, also?: number): Parameter {
  return { kind: "integer", least, most, ...(also === undefined ? {} : { also }) };
}

/** A timeout in milliseconds, within the range of timers. */
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

/** The delays between connection attempts. */
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

/** The names of all query options, in table order; `name.…` for free names. */
export function writtenNames(parameters: Readonly<Record<string, Parameter>>): string[] {
  return Object.entries(parameters).flatMap(([name, parameter]) => {
    if (parameter.kind === "elsewhere") return [];
    if (parameter.kind === "names") return [`${name}.…`];
    if (parameter.kind === "parts") return writtenNames(parameter.of).map((part) => `${name}.${part}`);
    return [name];
  });
}

/** Describes the possible values, for messages. */
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
      return `its parts, such as ${writtenNames(parameter.of)
        .map((part) => `.${part}`)
        .join(" and ")}`;
    case "names":
      return "a name after a dot, as in .name=value";
    case "elsewhere":
      return parameter.where;
  }
}

function range({ least, most, also }: Parameter & { readonly kind: "integer" }): string {
  const bounded = most === Number.MAX_SAFE_INTEGER ? `from ${least} up` : `from ${least} to ${most}`;
  return also === undefined ? bounded : `${bounded}, or ${also}`;
}

type Value = string | number | boolean;

/** The option that a written name refers to, with its group if it has a dot. */
interface Place {
  readonly group: string | undefined;
  readonly option: string;
  readonly parameter: Parameter;
}

/** The pattern of option names. Anything else is not quoted in errors. */
const OPTION = /^[A-Za-z][A-Za-z0-9._-]{0,60}$/;

/** Parses the options of a query. Reports all problems at once; errors quote names of options, but no values. */
function readQuery(
  query: string,
  parameters: Readonly<Record<string, Parameter>>,
  refuse: Refuse,
): Readonly<Record<string, unknown>> {
  if (/%(?![0-9a-f]{2})/i.test(query)) throw refuse("got a query with a malformed percent-encoding");
  const problems: string[] = [];
  const options = new Map<string, Value>();
  const groups = new Map<string, Map<string, Value>>();
  const seen = new Set<string>();
  let listed = false;
  for (const [name, text] of new URLSearchParams(query)) {
    const place = placeOf(name, parameters);
    const value = place === undefined ? undefined : readValue(text, place.parameter);
    if (place === undefined) {
      problems.push(unknown(name, text, parameters));
      listed = true;
    } else if (place.parameter.kind === "elsewhere") {
      problems.push(`takes no ${name} in its query: ${place.parameter.where}`);
    } else if (value === undefined) {
      problems.push(`takes ${takes(place.parameter)} as ${name}`);
    } else if (seen.has(name)) {
      problems.push(`got ${name} twice`);
    } else if (place.group === undefined) {
      options.set(place.option, value);
    } else {
      const group = groups.get(place.group) ?? new Map<string, Value>();
      groups.set(place.group, group.set(place.option, value));
    }
    seen.add(name);
  }
  if (listed) problems.push(`it takes ${writtenNames(parameters).join(", ") || "none"}`);
  if (problems.length > 0) throw refuse(problems.join("; "));
  // Object.fromEntries makes own properties, also for names such as __proto__.
  const grouped = [...groups].map(([name, values]) => [name, Object.fromEntries(values)] as const);
  return Object.fromEntries<unknown>([...options, ...grouped]);
}

function placeOf(name: string, parameters: Readonly<Record<string, Parameter>>): Place | undefined {
  const own = ownOf(parameters, name);
  if (own !== undefined) return { group: undefined, option: name, parameter: own };
  const dot = name.indexOf(".");
  const [group, option] = [name.slice(0, Math.max(dot, 0)), name.slice(dot + 1)];
  const within = ownOf(parameters, group);
  if (within?.kind === "names" && option !== "") return { group, option, parameter: within.each };
  const parameter = within?.kind === "parts" ? ownOf(within.of, option) : undefined;
  return parameter === undefined ? undefined : { group, option, parameter };
}

function ownOf(parameters: Readonly<Record<string, Parameter>>, name: string): Parameter | undefined {
  return Object.hasOwn(parameters, name) ? parameters[name] : undefined;
}

function unknown(name: string, text: string, parameters: Readonly<Record<string, Parameter>>): string {
  if (!OPTION.test(name)) return "got something that is not the name of an option";
  const meant = nearest(name, writtenNames(parameters));
  // A name without a value may be the end of another value with an "&", such as a password.
  if (text === "" && meant === undefined) return "got an unknown option without a value";
  return `has no option "${name}"${meant === undefined ? "" : ` (did you mean ${meant}?)`}`;
}

/** Undefined if the text is no such value. */
function readValue(text: string, parameter: Parameter): Value | undefined {
  switch (parameter.kind) {
    case "integer":
      return integerWithin(text, parameter);
    case "flag":
      return text === "true" || text === "false" ? text === "true" : undefined;
    case "choice":
      return parameter.of.includes(text) ? text : undefined;
    case "text":
      return text === "" ? undefined : text;
    case "scalar":
      return scalarOf(text);
    default:
      return undefined;
  }
}

function integerWithin(
  text: string,
  { least, most, also }: Parameter & { readonly kind: "integer" },
): number | undefined {
  const value = integerOf(text);
  return value !== undefined && ((value >= least && value <= most) || value === also) ? value : undefined;
}

function integerOf(text: string): number | undefined {
  // Only the canonical form is a number: 007 stays a text.
  const value = /^(0|-?[1-9]\d*)$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

function scalarOf(text: string): Value | undefined {
  if (text === "true" || text === "false") return text === "true";
  return integerOf(text) ?? (text === "" ? undefined : text);
}

/** Makes the error for a URL. The problem must not quote values. */
export type Refuse = (problem: string) => MessagingError;

export function refuseAs(where: string): Refuse {
  return (problem) => new MessagingError("invalid", `${where} ${problem}`);
}

/**
 * Options that the program sets itself: what no URL can express (a space, certificates, a credentials provider), and what
 * must override the URL. Only the options of the URL's broker are used and checked.
 */
export interface UrlOptions {
  /** For `memory:`. Brokers with the same `space` share their messages. Default: a separate space for each. */
  readonly memory?: MemoryOptions;
  /** For `amqp:` and `amqps:`. */
  readonly rabbitmq?: Omit<RabbitMQOptions, "url">;
  /** For `kafka:` and `kafka+ssl:`. */
  readonly kafka?: Partial<KafkaOptions>;
  /** For `sqs:`. */
  readonly sqs?: SqsOptions;
}

/** How the URLs of one broker are parsed. */
interface BrokerUrlDefinition<Options extends object> {
  /** Its name among the options of `fromUrl`. */
  readonly name: keyof UrlOptions;
  /** Its schemes; messages show the first. */
  readonly schemes: readonly string[];
  /** An example for messages. */
  readonly form: string;
  /** The required packages, for npm install. */
  readonly packages: readonly string[];
  /** The form of each option of the adapter. */
  readonly parameters: Parameters<Options>;
  /** Returns the adapter's options. Errors must not quote values. */
  read(parts: UrlParts, query: Partial<Options>, refuse: Refuse): Partial<Options>;
  /** Imports the adapter and its client. */
  load(): Promise<(options: Options) => Adapter>;
}

/** A {@link BrokerUrlDefinition} for any adapter. */
export interface BrokerUrl extends Pick<BrokerUrlDefinition<object>, "name" | "schemes" | "form" | "packages"> {
  readonly parameters: Parameters<Readonly<Record<string, unknown>>>;
  /** Returns the adapter's options: the program's, and otherwise the URL's. Throws `invalid`. */
  options(parts: UrlParts, own: object): object;
  /** Makes the adapter. Rejects with `unsupported` if its client cannot be loaded, with `invalid` for wrong options. */
  adapter(options: object): Promise<Adapter>;
}

export function brokerUrl<Options extends object>(definition: BrokerUrlDefinition<Options>): BrokerUrl {
  const { name, schemes, form, packages, parameters } = definition;
  const where = `fromUrl("${schemes[0]}:…")`;
  return {
    name,
    schemes,
    form,
    packages,
    parameters,
    options(parts, own) {
      checkOptions(`fromUrl() { ${name} }`, own, Object.keys(parameters));
      const refuse = refuseAs(where);
      const query = readQuery(parts.query, parameters, refuse) as Partial<Options>;
      const given = Object.entries(own).filter(([, value]) => value !== undefined);
      return { ...definition.read(parts, query, refuse), ...Object.fromEntries(given) };
    },
    async adapter(options) {
      const make = await definition.load().catch((cause: unknown) => {
        throw notLoaded(where, packages, cause);
      });
      return make(options as Options);
    },
  };
}

/** The error of an adapter that could not be imported, usually because its client is not installed. */
export function notLoaded(where: string, packages: readonly string[], cause: unknown): MessagingError {
  const install = `npm install ${packages.join(" ")}`;
  const missing = packages.map(nameOf).find((name) => isMissing(name, cause));
  const problem =
    missing === undefined
      ? `could not load the broker's client, see the cause; reinstall it: ${install}`
      : `needs the package ${missing}, which is not installed: ${install}`;
  return new MessagingError("unsupported", `${where} ${problem}`, { cause });
}

/** The name of a package without its version range. */
function nameOf(packageInRange: string): string {
  return packageInRange.replace(/(?<=.)@.*$/, "");
}

/** Node.js quotes the missing package, or a file in it. */
function isMissing(name: string, cause: unknown): boolean {
  if (!(cause instanceof Error) || !("code" in cause)) return false;
  if (cause.code !== "ERR_MODULE_NOT_FOUND" && cause.code !== "MODULE_NOT_FOUND") return false;
  return cause.message.includes(`'${name}'`) || cause.message.includes(`'${name}/`);
}
