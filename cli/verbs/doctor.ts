import type { Destination } from "../../core/destination.ts";
import { compareBrokers } from "../../patterns/migration/index.ts";
import { aboutBroker, aboutDestination } from "../about-broker.ts";
import { examine, type Named } from "../examination.ts";
import { CommandError } from "../exit-codes.ts";
import { chooseBroker, chosenBroker, type Frame, madeAdapter } from "../frame.ts";
import { declarationsOf, planText, problemJson } from "../standing.ts";
import { destinationOf, findWorkTarget, parseAddress } from "../target.ts";
import { type Ended, verb } from "../verb.ts";

export const doctor = verb({
  name: "doctor",
  summary: "Connect, check rights, version, limits and topology; or compare two brokers",
  teaches: `Connects to the broker, asks who it is, looks for every destination and counts its messages, and tells for each what it becomes on that broker and which of its guarantees the broker gives itself (native), anybroker adds (emulated), or nobody can give (unsupported: refused at start). It sends nothing and takes nothing; the rights to write and to consume can therefore not be proven here, and are told as unknown. Without a configuration it looks at what it finds on the broker (on RabbitMQ with managementUrl).

With --plan it connects to nothing, and says what a move to another broker would mean for these destinations: what the other refuses, and what it does otherwise. That is the first question of a migration.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration, else of the broker" },
  },
  options: {
    plan: { type: "boolean", default: false, describe: "Compare two brokers, offline" },
    from: { type: "string", describe: "With --plan: the broker now; else --broker" },
    to: { type: "string", describe: "With --plan: the broker to move to" },
  },
  examples: [
    ["doctor", "is everything there, and what does this broker give?"],
    ["doctor --plan --from sqs://eu-central-1 --to kafka://localhost", "what would change on Kafka?"],
  ],
  json: {
    broker: "the broker as it was chosen, without secrets",
    adapter: "what kind of broker it is",
    version: "the server's version; null where it is not told, and with `--plan`",
    servers: "how many servers there are; null where it is not told, and with `--plan`",
    checks: "what was tried: `check`, `status` (`ok`, `failed`, `unknown`), `message`; empty with `--plan`",
    capabilities: "each capability by name: `support` (`native`, `emulated`, `unsupported`) and `note`",
    limits: "`maxMessageBytes`, `maxHeaders`, `maxHeaderBytes`, `priorities`",
    destinations:
      "a list: `destination`, `physical` (`main`, `deadLetters`, `quarantine`), `asks` (`capability`, `support`), `standing` (null with `--plan`), `messages`, `deadLetters` and `deadLettersHeld` (counts; null where they are not known)",
    problems: "what keeps the broker from carrying the destinations: `code` and `message`",
    plan: "null without `--plan`; else `to` (the other broker), `adapter`, `differences` (`name`, `from`, `to`, `kind`: `lost`, `emulated` or `gained`, `askedBy`, `note`), `lost` (their names, as `migrate advance --accept` takes them) and `refused` (`code`, `message`)",
  },
  exits: {
    unavailable:
      "the broker cannot be reached, or cannot carry the destinations; with `--plan`: the other refuses some",
    "not-allowed": "it refuses the login or a right",
    configuration: "a destination is missing there, or is something else",
  },
  async run({ destinations = [], plan, from, to }, frame) {
    const { destinations: known = [] } = frame.configuration;
    const named = destinations.length === 0 ? known.map(declared) : destinations.map((text) => namedBy(text, known));
    if (plan)
      return comparePlan(
        frame,
        named.map(({ destination }) => destination),
        from,
        to,
      );
    if (from !== undefined || to !== undefined) throw new CommandError("usage", "--from and --to are for --plan");
    return examine(frame, named);
  },
});

function declared(destination: Destination): Named {
  return { destination, isDeclared: true };
}

/** A bare name does not say how the destination is declared. */
function namedBy(text: string, known: readonly Destination[]): Named {
  const target = findWorkTarget(text, known);
  return { destination: destinationOf(target), isDeclared: target.configured || parseAddress(text).kind !== undefined };
}

async function comparePlan(
  frame: Frame,
  wanted: readonly Destination[],
  from: string | undefined,
  to: string | undefined,
): Promise<Ended> {
  if (to === undefined)
    throw new CommandError("usage", "--plan needs the broker to move to: --to kafka://localhost, or its name");
  const { configuration, context, secrets, terminal } = frame;
  const sources = { configuration, env: context.env, secrets };
  const before = from === undefined ? chosenBroker(frame) : chooseBroker(sources, from, "--from");
  const after = chooseBroker(sources, to, "--to");
  const [here, there] = [await madeAdapter(frame, before), await madeAdapter(frame, after)];
  const required = configuration.require ?? [];
  const comparison = compareBrokers(here, there, wanted);
  const { differences, lost } = comparison;
  const refused = declarationsOf(wanted).problems(there, required).map(problemJson);
  const plan = { to: after.label, adapter: there.name, differences, lost, refused };
  return {
    json: {
      ...aboutBroker(before.label, here, wanted, required),
      version: null,
      servers: null,
      checks: [],
      destinations: wanted.map((one) => ({
        ...aboutDestination(here, one),
        standing: null,
        messages: null,
        deadLetters: null,
        deadLettersHeld: null,
      })),
      plan,
    },
    text: planText(terminal.paint, `${here.name} ${before.label}`, `${there.name} ${after.label}`, comparison, refused),
    exit: refused.length > 0 ? "unavailable" : "done",
  };
}
