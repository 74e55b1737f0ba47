import type { Adapter } from "../../core/adapter.ts";
import type { Destination } from "../../core/destination.ts";
import { type PhysicalNames, physicalOf } from "../about-broker.ts";
import { columns } from "../columns.ts";
import { chosenBroker, type Frame, madeAdapter } from "../frame.ts";
import { declarationsOf, problemJson, wantedDestinations } from "../standing.ts";
import { describeDestination } from "../target.ts";
import { type Ended, verb } from "../verb.ts";

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
