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
  teaches: `Connects, checks that every destination exists, counts its messages, and shows which guarantees the broker gives itself (native), anybroker adds (emulated), or start refuses (unsupported). Sends and consumes nothing, so these rights stay unknown. Without a configuration it covers what the broker has (RabbitMQ: with managementUrl).

--plan compares two brokers: what the target broker refuses, and does otherwise.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration, else of the broker" },
  },
  options: {
    plan: { type: "boolean", default: false, describe: "Compare two brokers offline" },
    from: { type: "string", describe: "The source broker. Default --broker" },
    to: { type: "string", describe: "The target broker" },
  },
  examples: [
    ["doctor", "is everything there, and what does this broker give?"],
    ["doctor --plan --from sqs://eu-central-1 --to kafka://localhost", "what would change on Kafka?"],
  ],
  json: {
    broker: "",
    adapter: "",
    version: "",
    servers: "",
    checks: "`check`, `status` (`ok`, `failed`, `unknown`), `message`",
    capabilities: "by name: `support`, `note`",
    limits: "`maxMessageBytes`, `maxHeaders`, `maxHeaderBytes`, `priorities`",
    destinations:
      "`destination`, `physical` (`main`, `deadLetters`, `quarantine`), `asks` (`capability`, `support`), `standing`, `messages`, `deadLetters`, `deadLettersHeld`",
    problems: "",
    plan: "`to`, `adapter`, `differences` (`name`, `from`, `to`, `kind` `lost`, `emulated` or `gained`, `askedBy`, `note`), `lost` (names for `migrate advance --accept`), `refused`",
  },
  exits: {
    unavailable: "also with `--plan`: the target broker refuses some",
    "not-allowed": "",
    configuration: "",
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
