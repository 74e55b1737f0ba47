import type { MessagingError } from "../../core/errors.ts";
import { startFailed } from "../../core/start.ts";
import type { ExitName } from "../exit-codes.ts";
import { exitOf } from "../exit-codes.ts";
import { withBroker } from "../frame.ts";
import { type Compared, compare, declarationsOf, toldProblem, wantedDestinations } from "../standing.ts";
import { verb } from "../verb.ts";

export const topologyCreate = verb({
  name: "topology create",
  summary: "Make what is missing on the broker",
  teaches: `Makes the queues, topics and subscriptions that are missing, each with its dead letters and quarantine log. What stands already stays as it is: if it has other options that is a problem, which is told and not mended. Needs the rights to create; applications may then run with less, and declare: "verify".`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {
    "dry-run": { type: "boolean", default: false, describe: "Only tell what would be made" },
  },
  examples: [
    ["topology create --dry-run", "what would be made"],
    [
      "topology create queue:orders,ordered topic:order.placed/billing --broker amqp://localhost",
      "without a configuration",
    ],
  ],
  json: {
    broker: "the broker as it was chosen, without secrets",
    dryRun: "whether nothing was made because of `--dry-run`",
    created: "what was made, or would be: `queue:orders`",
    existed: "what stood already",
    problems: "what could not be made, or stands with other options: `code` and `message`",
  },
  exits: {
    partly: "some was made, and some could not be",
    configuration: "something stands with other options, or two destinations contradict each other",
    unavailable: "the broker cannot be reached, or cannot carry what is declared",
    "not-allowed": "it refuses the login, or the right to create",
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
      const refusals = doesMake ? await adapter.declare(declarations.topology("create")) : [];
      const after = doesMake ? await compare(adapter, wanted) : before;
      const gone = named(before, "missing");
      const stillGone = dryRun ? [] : named(after, "missing");
      const created = gone.filter((destination) => !stillGone.includes(destination));
      const others = named(after, "different");
      const existed = before
        .map(({ destination }) => destination)
        .filter((destination) => !gone.includes(destination) && !others.includes(destination));
      const told =
        refusals.length > 0
          ? refusals.map(toldProblem)
          : after.filter(({ standing }) => standing === "different").flatMap((one) => one.problems);
      const { paint } = frame.terminal;
      const text = [
        ...existed.map((destination) => `${paint.dim("stands ")} ${destination}`),
        ...created.map((destination) => `${paint.green(dryRun ? "missing" : "created")} ${destination}`),
        ...told.map(({ code, message }) => `${paint.red(code)} ${message}`),
        ...(dryRun && created.length > 0 ? ["nothing was made: --dry-run"] : []),
      ].join("\n");
      return {
        json: { broker: label, dryRun, created, existed, problems: told },
        text,
        exit: dryRun || told.length === 0 ? "done" : created.length > 0 ? "partly" : exitFor(refusals),
      };
    });
  },
});

function named(compared: readonly Compared[], standing: Compared["standing"]): readonly string[] {
  return compared.filter((one) => one.standing === standing).map(({ destination }) => destination);
}

/** What stands with other properties is refused by the broker, or told by the comparison alone. */
function exitFor([first]: readonly MessagingError[]): ExitName {
  return first === undefined ? "configuration" : exitOf(first);
}
