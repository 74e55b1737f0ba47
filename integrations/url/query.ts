import { nearest } from "./nearest.ts";
import { type Parameter, takes, writtenNames } from "./parameters.ts";
import type { Refuse } from "./refuse.ts";

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
export function readQuery(
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
