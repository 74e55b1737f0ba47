import type { Adapter, Topology } from "../../core/adapter.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError, type MessagingError } from "../../core/errors.ts";
import { startFailed } from "../../core/start.ts";
import { type PhysicalNames, physicalOf } from "../about-broker.ts";
import { columns } from "../columns.ts";
import {
  type Compared,
  compare,
  comparedJson,
  declarationsOf,
  isSetByCreate,
  problemJson,
  wantedDestinations,
} from "../comparison.ts";
import { type ExitName, exitOf } from "../exit-codes.ts";
import { chosenBroker, doesExist, type Frame, madeAdapter, nearName, noteOf, withBroker } from "../frame.ts";
import { describeDestination, placeOf } from "../target.ts";
import type { Paint } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";
import { toldText } from "../wording.ts";

/** A destination with its physical names. */
interface Shown {
  readonly destination: string;
  readonly kind: Destination["kind"];
  readonly options: Readonly<Record<string, unknown>>;
  readonly physical: PhysicalNames;
}

export const topologyShow = verb({
  name: "topology show",
  summary: "The destinations and their names on the broker",
  teaches: `Shows the options and the names on the broker: the queue, topic or exchange, its dead letters and its quarantine log. Connects to nothing.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [
    ["topology show", "all destinations of the configuration"],
    ["topology show queue:orders,ordered --broker sqs://eu-central-1", "what one is called on SQS"],
  ],
  json: {
    broker: "",
    adapter: "",
    destinations: "`destination`, `kind`, `options`, `physical`",
    problems: "",
  },
  exits: { configuration: "" },
  run: async ({ destinations = [] }, frame) => show(frame, destinations),
});

async function show(frame: Frame, addresses: readonly string[]): Promise<Ended> {
  const wanted = wantedDestinations(frame, addresses);
  const chosen = chosenBroker(frame);
  const { label } = chosen;
  const adapter = await madeAdapter(frame, chosen);
  const declarations = declarationsOf(wanted);
  const shown = wanted.map((one) => shownOf(adapter, one));
  const problems = declarations.problems(adapter, frame.configuration.require ?? []).map(problemJson);
  const { paint } = frame.terminal;
  const rows = shown.map(({ destination, options, physical }) => [
    destination,
    Object.entries(options)
      .map(([name, value]) => (value === true ? name : `${name}=${String(value)}`))
      .join(" "),
    physical.main,
    physical.deadLetters,
    physical.quarantine,
  ]);
  const text = [
    `${paint.bold(adapter.name)} ${paint.dim(label)}`,
    columns(
      paint,
      [{ name: "DESTINATION", when: "whole" }, "OPTIONS", "ON THE BROKER", "DEAD LETTERS", "QUARANTINE LOG"],
      rows,
    ),
    ...problems.map(({ code, message }) => `${paint.red(code)} ${message}`),
  ].join("\n");
  return { json: { broker: label, adapter: adapter.name, destinations: shown, problems }, text };
}

function shownOf(adapter: Adapter, destination: Destination): Shown {
  const physical = physicalOf(adapter, destination);
  return {
    destination: describeDestination(destination),
    kind: destination.kind,
    options: optionsOf(destination),
    physical,
  };
}

function optionsOf(destination: Destination): Readonly<Record<string, unknown>> {
  const of = destination.kind === "subscription" ? destination.topic : destination;
  const { ordered, durable, ttlMs } = of.options;
  const all = {
    ordered: ordered === true || undefined,
    durable: durable === true || undefined,
    ttlMs,
    ...(destination.kind === "queue" ? { priorities: destination.options.priorities } : {}),
    ...(destination.kind === "subscription"
      ? { filter: destination.options.filter, from: fromOf(destination.options.from) }
      : {}),
    schema: of.schema === undefined ? undefined : of.schema["~standard"].vendor,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function fromOf(from: unknown): string | undefined {
  if (from === undefined || typeof from === "string") return from;
  return from instanceof Date ? from.toISOString() : JSON.stringify(from);
}

export const topologyCreate = verb({
  name: "topology create",
  summary: "Make what is missing on the broker",
  teaches: `Creates missing queues, topics and subscriptions, each with its dead letters and quarantine log. Applications can then run without the right to create, and declare: "verify".

Of what exists it changes and reports: on SQS missing policies, and a subscription's filter and raw delivery; on RabbitMQ it adds missing bindings, beside those of a former filter. Other differences are a problem.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {
    "dry-run": { type: "boolean", default: false, describe: "Only show what would be created and changed" },
  },
  examples: [
    ["topology create --dry-run", "what would be made"],
    [
      "topology create queue:orders,ordered topic:order.placed/billing --broker amqp://localhost",
      "without a configuration",
    ],
  ],
  json: {
    broker: "",
    dryRun: "",
    created: "",
    partly: "some of it was created, not all",
    existed: "",
    changed: "`destination`, `problems` (what differed)",
    problems: "",
    unverified: "existing, and not comparable",
  },
  exits: {
    partly: "",
    configuration: "",
    unavailable: "",
    "not-allowed": "",
  },
  async run({ destinations = [], "dry-run": dryRun }, frame) {
    const wanted = wantedDestinations(frame, destinations);
    const declarations = declarationsOf(wanted);
    const notices: MessagingError[] = [];
    const onNotice = (error: MessagingError): void => void notices.push(error);
    let reported: readonly MessagingError[] = [];
    const chosen = chosenBroker(frame);
    const ended = withBroker(frame, { destinations: [], chosen, onNotice }, async ({ adapter, label }) => {
      const refused = declarations.problems(adapter, frame.configuration.require ?? []);
      if (refused.length > 0) throw startFailed(refused);
      const before = await compare(adapter, wanted);
      const isComplete = before.every(({ state }) => state === "same");
      const doesMake = !dryRun && !isComplete;
      const refusals = doesMake ? await refusalsOf(adapter, declarations.topology("create")) : [];
      const after = doesMake ? await compare(adapter, wanted) : before;
      const made = await Promise.all(
        wanted.map((one, index) =>
          madeOf(adapter, one, { before: before[index], after: after[index], dryRun, refusals }),
        ),
      );
      const as = (what: Made): readonly string[] =>
        wanted.map(describeDestination).filter((_, index) => made[index] === what);
      const [created, partly, existed] = [as("created"), as("partly"), as("existed")];
      const changes = changesOf(before, after, dryRun);
      const errors = refusals.length > 0 ? refusals : differencesIn(after, dryRun);
      const unverified = unverifiedOf(after, existed, errors);
      const problems = errors.map(problemJson);
      const { paint } = frame.terminal;
      const lines = (found: readonly MessagingError[]): readonly string[] =>
        found.map((error) => `${paint.red(error.code)} ${toldText(error)}`);
      const text = [
        ...existed.map((destination) => `${paint.dim("exists ")} ${destination}`),
        ...created.map((destination) => `${paint.green(dryRun ? "missing" : "created")} ${destination}`),
        ...partly.map((destination) => `${paint.yellow("partly ")} ${destination}: only some of it was created`),
        ...changes.flatMap(({ destination, problems: differed }) => [
          `${paint.yellow(dryRun ? "differs" : "changed")} ${destination}: ${dryRun ? "would be set as declared" : "set as declared. Before:"}`,
          ...differed.map((problem) => `        ${toldText(problem)}`),
        ]),
        ...lines(errors),
        ...unverified.map((error) => `${paint.yellow("unknown")} ${toldText(error)}`),
        ...(dryRun && created.length + changes.length > 0 ? ["nothing was created or changed: --dry-run"] : []),
      ].join("\n");
      const isSomeDone = created.length + partly.length + changes.length > 0;
      reported = errors;
      return {
        json: {
          broker: label,
          dryRun,
          created,
          partly,
          existed,
          changed: changes.map(comparedChange),
          problems,
          unverified: unverified.map(problemJson),
        },
        text,
        errors,
        exit: dryRun || problems.length === 0 ? "done" : isSomeDone ? "partly" : exitFor(refusals),
      };
    });
    return ended.finally(() => {
      // A notice can repeat a problem of the result.
      const others = notices.filter(({ message }) => !reported.some((problem) => problem.message === message));
      for (const { message } of others) noteOf(frame, chosen.label, message);
    });
  },
});

/** What differed in existing destinations, and is set as declared; with `dryRun`, what would be set. */
function changesOf(before: readonly Compared[], after: readonly Compared[], dryRun: boolean): readonly Compared[] {
  return before.flatMap((one, index) => {
    const left = dryRun ? [] : (after[index]?.problems ?? []).map(({ message }) => message);
    const problems = one.problems.filter((problem) => isSetByCreate(problem) && !left.includes(problem.message));
    return problems.length === 0 ? [] : [{ ...one, problems }];
  });
}

function comparedChange({ destination, problems }: Compared): object {
  return { destination, problems: problems.map(problemJson) };
}

/** What differs and stays. */
function differencesIn(after: readonly Compared[], dryRun: boolean): readonly MessagingError[] {
  const all = after.filter(({ state }) => state === "different").flatMap(({ problems }) => problems);
  return dryRun ? all.filter((problem) => !isSetByCreate(problem)) : all;
}

/** What of existing destinations could not be compared: `create` may have changed it, as with a binding of RabbitMQ. */
function unverifiedOf(
  after: readonly Compared[],
  existed: readonly string[],
  errors: readonly MessagingError[],
): readonly MessagingError[] {
  return after
    .filter(({ destination, state }) => state === "unknown" && existed.includes(destination))
    .flatMap(({ problems }) => problems)
    .filter(({ message }) => !errors.some((error) => error.message === message));
}

type Made = "created" | "partly" | "existed" | "neither";

interface Making {
  readonly before: Compared | undefined;
  readonly after: Compared | undefined;
  readonly dryRun: boolean;
  readonly refusals: readonly MessagingError[];
}

/** The result for a destination. It existed only if that was confirmed. */
async function madeOf(
  adapter: Adapter,
  destination: Destination,
  { before, after, dryRun, refusals }: Making,
): Promise<Made> {
  if (before?.state === "same") return after?.state === "different" ? "neither" : "existed";
  if (lacksSomething(before)) {
    if (dryRun) return before?.state === "missing" ? "created" : "neither";
    if (lacksSomething(after)) return "neither";
    // A destination that only cannot be compared was not refused.
    const isRefused = after?.problems.some(({ code }) => refusals.some((refusal) => refusal.code === code)) ?? false;
    return isRefused ? "partly" : "created";
  }
  if (before?.state === "different" || after?.state === "different") return "neither";
  // A user without the right to compare may still see it.
  return (await doesExist(adapter, destination)) ? "existed" : "neither";
}

function lacksSomething(compared: Compared | undefined): boolean {
  return compared?.problems.some(({ code }) => code === "not-found") ?? false;
}

/** Creates the topology; returns what was refused. If the broker becomes unreachable, some may be created. */
async function refusalsOf(adapter: Adapter, topology: Topology): Promise<readonly MessagingError[]> {
  try {
    return await adapter.declare(topology);
  } catch (error) {
    if (isMessagingError(error)) return [error];
    throw error;
  }
}

/** Other properties are refused by the broker, or found by the comparison only. */
function exitFor([first]: readonly MessagingError[]): ExitName {
  return first === undefined ? "configuration" : exitOf(first);
}

/** The JSON of a comparison. */
const COMPARED_JSON = {
  broker: "",
  destinations:
    "`destination`, `state` (`same`, `missing`, `different`, `unknown`), `problems`, `meant` (a similar name on the broker)",
};

export const topologyDiff = verb({
  name: "topology diff",
  summary: "Compare the broker with what is declared",
  teaches: `Compares each destination with the broker: same, missing, different, or unknown (such as bindings on RabbitMQ without managementUrl). Changes nothing, and ends with 0 also if something differs.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [
    ["topology diff", "all destinations of the configuration"],
    ["topology diff --broker staging --json", "on another broker of the configuration, for a program"],
  ],
  json: COMPARED_JSON,
  exits: {
    unavailable: "",
    "not-allowed": "",
    configuration: "",
  },
  async run({ destinations = [] }, frame) {
    const { label, compared } = await compareAll(frame, destinations);
    return {
      json: { broker: label, destinations: compared.map(comparedJson) },
      text: comparedText(frame.terminal.paint, compared),
      errors: compared.flatMap(({ problems }) => problems),
    };
  },
});

/** Compares the named destinations with the broker. */
async function compareAll(
  frame: Frame,
  addresses: readonly string[],
): Promise<{ readonly label: string; readonly compared: readonly Compared[] }> {
  const wanted = wantedDestinations(frame, addresses);
  return withBroker(frame, { destinations: [] }, async ({ adapter, label }) => ({
    label,
    compared: await Promise.all(
      (await compare(adapter, wanted)).map(async (one, index): Promise<Compared> => {
        const destination = wanted[index];
        if (one.state !== "missing" || destination === undefined) return one;
        const meant = await nearName(adapter, placeOf(destination), frame.configuration.destinations ?? []);
        return meant === undefined ? one : { ...one, meant };
      }),
    ),
  }));
}

/** The text of a comparison. */
function comparedText(paint: Paint, compared: readonly Compared[]): string {
  const rows = compared.map(({ destination, state }) => [{ painted: painted(paint, state) }, destination]);
  const meant = compared.flatMap((one) =>
    one.meant === undefined ? [] : [`${one.destination} does not exist: did you mean ${one.meant}?`],
  );
  // Missing ones need no further problems.
  const others = compared.filter(({ state }) => state !== "missing");
  const problems = others.flatMap(({ problems }) =>
    problems.map((problem) => `${paint.red(problem.code)} ${toldText(problem)}`),
  );
  return [columns(paint, ["STATE", { name: "DESTINATION", when: "whole" }], rows), ...problems, ...meant].join("\n");
}

function painted(paint: Paint, state: Compared["state"]): string {
  if (state === "same") return paint.green(state);
  return state === "missing" ? paint.yellow(state) : paint.red(state);
}

export const topologyVerify = verb({
  name: "topology verify",
  summary: "Check that everything exists on the broker as declared",
  teaches: `As "topology diff", but ends with 0 only if everything exists as declared, for pipelines. "unknown" is no success: on RabbitMQ the user needs the right to configure, and bindings need managementUrl in the URL (?managementUrl=https://host:15671).`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [["topology verify --broker production", "before an application is rolled out"]],
  json: { ...COMPARED_JSON, verified: "" },
  exits: {
    configuration: "",
    unavailable: "also: it could not compare something",
    "not-allowed": "",
  },
  async run({ destinations = [] }, frame) {
    const { label, compared } = await compareAll(frame, destinations);
    const states = compared.map(({ state }) => state);
    const verified = states.every((state) => state === "same");
    const isKnown = !states.every((state) => state === "same" || state === "unknown");
    const { paint } = frame.terminal;
    const next = [
      ...(states.includes("missing") ? ['"anybroker topology create" creates what is missing'] : []),
      ...(states.includes("different") ? [differenceText(compared)] : []),
    ];
    const end = verified
      ? paint.green("everything exists as declared")
      : isKnown
        ? paint.red(`not everything exists as declared: ${next.join("; ")}`)
        : paint.red("not everything could be compared with the declarations");
    return {
      json: { broker: label, destinations: compared.map(comparedJson), verified },
      text: `${comparedText(paint, compared)}\n${end}`,
      errors: compared.flatMap(({ problems }) => problems),
      exit: verified ? "done" : isKnown ? "configuration" : exitOfUnknown(compared),
    };
  },
});

function differenceText(compared: readonly Compared[]): string {
  const differences = compared.filter(({ state }) => state === "different").flatMap(({ problems }) => problems);
  return differences.every((problem) => isSetByCreate(problem) || problem.code === "not-found")
    ? '"anybroker topology create" sets what differs as declared'
    : "what differs is not changed: declare it as it is on the broker, or drain and remove it first";
}

/** The exit for destinations that could not be compared. */
function exitOfUnknown(compared: readonly Compared[]): ExitName {
  const codes = compared.flatMap(({ problems }) => problems.map(({ code }) => code));
  return codes.includes("unauthorized") ? "not-allowed" : "unavailable";
}
