import type { Adapter, Topology } from "../../core/adapter.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError, type MessagingError } from "../../core/errors.ts";
import { startFailed } from "../../core/start.ts";
import { type ExitName, exitOf } from "../exit-codes.ts";
import { withBroker } from "../frame.ts";
import { type Compared, compare, declarationsOf, problemJson, wantedDestinations } from "../standing.ts";
import { describeDestination, placeOf } from "../target.ts";
import { verb } from "../verb.ts";

export const topologyCreate = verb({
  name: "topology create",
  summary: "Make what is missing on the broker",
  teaches: `Creates missing queues, topics and subscriptions, each with its dead letters and quarantine log. Never changes what exists: other options are a problem. Applications can then run without the right to create, and declare: "verify".`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {
    "dry-run": { type: "boolean", default: false, describe: "Only show what would be created" },
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
    problems: "",
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
    return withBroker(frame, { destinations: [] }, async ({ adapter, label }) => {
      const refused = declarations.problems(adapter, frame.configuration.require ?? []);
      if (refused.length > 0) throw startFailed(refused);
      const before = await compare(adapter, wanted);
      const isComplete = before.every(({ standing }) => standing === "same");
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
      const problems =
        refusals.length > 0
          ? refusals.map(problemJson)
          : after.filter(({ standing }) => standing === "different").flatMap((one) => one.problems);
      const { paint } = frame.terminal;
      const text = [
        ...existed.map((destination) => `${paint.dim("exists ")} ${destination}`),
        ...created.map((destination) => `${paint.green(dryRun ? "missing" : "created")} ${destination}`),
        ...partly.map((destination) => `${paint.yellow("partly ")} ${destination}: only some of it was created`),
        ...problems.map(({ code, message }) => `${paint.red(code)} ${message}`),
        ...(dryRun && created.length > 0 ? ["nothing was created: --dry-run"] : []),
      ].join("\n");
      return {
        json: { broker: label, dryRun, created, partly, existed, problems },
        text,
        errors: refusals,
        exit:
          dryRun || problems.length === 0 ? "done" : created.length + partly.length > 0 ? "partly" : exitFor(refusals),
      };
    });
  },
});

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
  if (before?.standing === "same") return after?.standing === "different" ? "neither" : "existed";
  if (lacksSomething(before)) {
    if (dryRun) return before?.standing === "missing" ? "created" : "neither";
    if (lacksSomething(after)) return "neither";
    // A destination that only cannot be compared was not refused.
    const isRefused = after?.problems.some(({ code }) => refusals.some((refusal) => refusal.code === code)) ?? false;
    return isRefused ? "partly" : "created";
  }
  if (before?.standing === "different" || after?.standing === "different") return "neither";
  // A user without the right to compare may still see it.
  return (await exists(adapter, destination)) ? "existed" : "neither";
}

function lacksSomething(compared: Compared | undefined): boolean {
  return compared?.problems.some(({ code }) => code === "not-found") ?? false;
}

async function exists(adapter: Adapter, destination: Destination): Promise<boolean> {
  try {
    await adapter.depth(placeOf(destination));
    return true;
  } catch (error) {
    if (isMessagingError(error)) return false;
    throw error;
  }
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
