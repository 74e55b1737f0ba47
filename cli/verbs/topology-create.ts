import { startFailed } from "../../core/engine/start-failed.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { ExitName } from "../exit-codes.ts";
import { exitOf } from "../exit-codes.ts";
import { withBroker } from "../frame.ts";
import { compare, declarationsOf, toldProblem, wantedDestinations } from "../standing.ts";
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
    return withBroker(frame, { destinations: [], declare: "none" }, async ({ adapter, label }) => {
      const refused = declarations.problems(adapter, frame.configuration.require ?? []);
      if (refused.length > 0) throw startFailed(refused);
      const before = await compare(adapter, wanted);
      const missing = before.filter(({ standing }) => standing !== "same").map(({ destination }) => destination);
      let problems: readonly MessagingError[] = [];
      let left = dryRun ? before.filter(({ standing }) => standing !== "same" && standing !== "missing") : [];
      if (!dryRun && missing.length > 0) {
        problems = await adapter.declare(declarations.topology("create"));
        if (problems.length > 0) left = (await compare(adapter, wanted)).filter(({ standing }) => standing !== "same");
      }
      const not = left.map(({ destination }) => destination);
      const created = missing.filter((destination) => !not.includes(destination));
      const existed = before.filter(({ standing }) => standing === "same").map(({ destination }) => destination);
      const told = dryRun ? left.flatMap((one) => one.problems) : problems.map(toldProblem);
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
        exit: exitFor(problems, created),
      };
    });
  },
});

function exitFor(problems: readonly MessagingError[], created: readonly string[]): ExitName {
  if (problems.length === 0) return "done";
  return created.length > 0 ? "partly" : exitOf(problems[0]);
}
