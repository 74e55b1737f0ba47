import type { KafkaOptions } from "../../adapters/kafka/options.ts";
import type { MemoryOptions } from "../../adapters/memory/index.ts";
import type { RabbitMQOptions } from "../../adapters/rabbitmq/options.ts";
import type { SqsOptions } from "../../adapters/sqs/options.ts";
import type { Adapter } from "../../core/adapter.ts";
import { checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";

/** What a URL says, its query not looked at yet. */
interface UrlParts {
  /** In lower case, without the colon. */
  readonly scheme: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** What stands between the credentials and the path: one host, or several. Empty if there is none. */
  readonly hosts: string;
  /** With its slash; empty if there is none. */
  readonly path: string;
  readonly query: string;
  /** All of it but the query, as it was given. */
  readonly beforeQuery: string;
}

/** RFC 3986, appendix B. Node's own parser takes one host only, and Kafka has several. */
const URL_PARTS = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(#.*)?$/i;
const CREDENTIALS = /^([^:]*)(?::(.*))?$/;
const ENCODE = "encode special characters, in user and password above all, with encodeURIComponent";

/** The parts of a URL. Throws a refusal that quotes nothing: any part of a malformed URL may hold the password. */
export function urlParts(url: string, refuse: Refuse): UrlParts {
  if (/\s/.test(url)) throw refuse("got a URL with white space in it");
  const [, scheme, authority, path = "", query = "", fragment] = URL_PARTS.exec(url) ?? [];
  if (scheme === undefined) throw refuse("got a text that begins with no scheme");
  if (fragment !== undefined) throw refuse(`got a URL with a "#" in it; ${ENCODE}`);
  // Only so can nothing that is said about the rest be a piece of the password.
  if (`${path}${query}`.includes("@")) throw refuse(`got a URL with an "@" behind its host; ${ENCODE}`);
  if (authority === undefined && path !== "") throw refuse('got a URL without the "//" behind its scheme');
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
    throw refuse(`got a URL with a malformed percent code; ${ENCODE}`);
  }
}

/** How many slips of the pen are taken for one: a third of the name's letters. */
const SLIPS = 1 / 3;
const SHORTEST_BEGINNING = 4;

/**
 * The one of the names that was probably meant: the fewest slips away (a letter too much, missing, another, or two
 * swapped), or begun or continued alike. Case, `-` and `_` do not count. Undefined if none is near.
 */
export function nearest(given: string, names: readonly string[]): string | undefined {
  const wanted = plain(given);
  const ranked = names
    .map((name) => ({ name, slips: slips(wanted, plain(name)), alike: begunAlike(wanted, plain(name)) }))
    .filter(({ name, slips, alike }) => alike || slips <= Math.max(1, Math.floor(plain(name).length * SLIPS)))
    .sort((one, other) => one.slips - other.slips);
  return ranked[0]?.name;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, "");
}

function begunAlike(one: string, other: string): boolean {
  const [shorter, longer] = one.length < other.length ? [one, other] : [other, one];
  return shorter.length >= SHORTEST_BEGINNING && longer.startsWith(shorter);
}

/** The optimal string alignment distance: Damerau's four kinds of slips, each letter touched once. */
function slips(one: string, other: string): number {
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
type Parameters<Options> = Readonly<Record<keyof Options, Parameter>>;

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

type Value = string | number | boolean;

/** A written name, and what it stands for: an option, or one of a group, behind a dot. */
interface Place {
  readonly group: string | undefined;
  readonly option: string;
  readonly parameter: Parameter;
}

/** What looks like an option. Anything else is not repeated in an error. */
const OPTION = /^[A-Za-z][A-Za-z0-9._-]{0,60}$/;

/**
 * The options in a query. Throws a refusal of what is unknown, malformed or given twice, with all problems at once; it
 * quotes names of options, and no values.
 */
function readQuery(
  query: string,
  parameters: Readonly<Record<string, Parameter>>,
  refuse: Refuse,
): Readonly<Record<string, unknown>> {
  if (/%(?![0-9a-f]{2})/i.test(query)) throw refuse("got a query with a malformed percent code");
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
  // Own properties, whatever their names are.
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
  if (!OPTION.test(name)) return "got an option whose name is none";
  const meant = nearest(name, writtenNames(parameters));
  // What has no value may be the end of one, of a password say, in which there was an "&".
  if (text === "" && meant === undefined) return "got an option without a value, which is none that it has";
  return `has no option "${name}"${meant === undefined ? "" : ` (did you mean ${meant}?)`}`;
}

/** Undefined for a text that is none of these. */
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
  // Written in one way only, so that a text such as 007 stays one.
  const value = /^(0|-?[1-9]\d*)$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

function scalarOf(text: string): Value | undefined {
  if (text === "true" || text === "false") return text === "true";
  return integerOf(text) ?? (text === "" ? undefined : text);
}

/** Makes the refusal of a URL. What it says must not quote values: one may be a password in the wrong place. */
export type Refuse = (problem: string) => MessagingError;

export function refuseAs(where: string): Refuse {
  return (problem) => new MessagingError("invalid", `${where} ${problem}`);
}

/**
 * What a program says itself about the brokers that it may be brought to: what no URL can carry (a space, certificates, a
 * function that provides credentials), and what it knows better than whoever sets the URL. Only the options for the
 * URL's broker are used, and looked at. One given here comes before the URL's.
 */
export interface UrlOptions {
  /** For `memory:`. Brokers with the same `space` share their messages; without one, each has its own. */
  readonly memory?: MemoryOptions;
  /** For `amqp:` and `amqps:`. */
  readonly rabbitmq?: Omit<RabbitMQOptions, "url">;
  /** For `kafka:` and `kafka+ssl:`. */
  readonly kafka?: Partial<KafkaOptions>;
  /** For `sqs:`. */
  readonly sqs?: SqsOptions;
}

/** How the URLs of one broker are written and read. */
interface BrokerUrlDefinition<Options extends object> {
  /** What its options are called among those of `fromUrl`. */
  readonly name: keyof UrlOptions;
  /** The schemes that it is known by; the first one is shown. */
  readonly schemes: readonly string[];
  /** What its URLs look like, for people. */
  readonly form: string;
  /** What has to be installed, as npm takes it. */
  readonly packages: readonly string[];
  /** Where each of the adapter's options is said. */
  readonly parameters: Parameters<Options>;
  /** The options in what stands before the query, and in the query. Throws a refusal that quotes no value. */
  read(parts: UrlParts, query: Partial<Options>, refuse: Refuse): Partial<Options>;
  /** Imports the adapter, and with it its client. */
  load(): Promise<(options: Options) => Adapter>;
}

/** The same, whatever the adapter's options are. */
export interface BrokerUrl extends Pick<BrokerUrlDefinition<object>, "name" | "schemes" | "form" | "packages"> {
  readonly parameters: Parameters<Readonly<Record<string, unknown>>>;
  /** The options for the adapter: the program's own, and for the rest the URL's. Throws `invalid`. */
  options(parts: UrlParts, own: object): object;
  /** The adapter. Rejects with `unsupported` if its client cannot be loaded, with `invalid` for wrong options. */
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

/**
 * Why an adapter could not be imported: mostly its client is not installed. The packages are as npm takes them, in the
 * versions that belong together.
 */
export function notLoaded(where: string, packages: readonly string[], cause: unknown): MessagingError {
  const install = `npm install ${packages.join(" ")}`;
  const missing = packages.map(nameOf).find((name) => isMissing(name, cause));
  const problem =
    missing === undefined
      ? `could not load the client of the broker, as the cause says; the installation may be broken: ${install}`
      : `needs the package ${missing}, which is not installed: ${install}`;
  return new MessagingError("unsupported", `${where} ${problem}`, { cause });
}

/** Without the range of versions. */
function nameOf(packageInRange: string): string {
  return packageInRange.replace(/(?<=.)@.*$/, "");
}

/** Node.js names the package, or the file within it, in quotes. */
function isMissing(name: string, cause: unknown): boolean {
  if (!(cause instanceof Error) || !("code" in cause)) return false;
  if (cause.code !== "ERR_MODULE_NOT_FOUND" && cause.code !== "MODULE_NOT_FOUND") return false;
  return cause.message.includes(`'${name}'`) || cause.message.includes(`'${name}/`);
}
