import type { Adapter } from "../../core/adapter.ts";
import type { WorkAddress } from "../../core/address.ts";
import { CAPABILITY_NAMES, type Capabilities } from "../../core/capabilities.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { compareBrokers } from "../../patterns/migration/index.ts";
import { asksOf } from "../asks.ts";
import { chooseBroker } from "../broker-choice.ts";
import { serverDetails, standingCount } from "../broker-details.ts";
import { columns } from "../columns.ts";
import { CommandError } from "../exit-codes.ts";
import { chosenBroker, type Frame, withBroker } from "../frame.ts";
import { paintSupport, planText } from "../plan-text.ts";
import { compare, declarationsOf, type Standing, toldProblem } from "../standing.ts";
import { addressOf, describeDestination, destinationOf, findTarget } from "../target.ts";
import { type Ended, verb } from "../verb.ts";
import { physicalOf } from "./topology-show.ts";

/** Something that was tried. */
interface Check {
  readonly check: string;
  readonly status: "ok" | "failed" | "unknown";
  readonly message: string;
}

export const doctor = verb({
  name: "doctor",
  summary: "Connect, check rights, version, limits and topology; or compare two brokers",
  teaches: `Connects to the broker, asks who it is, looks for every destination and counts its messages, and tells for each what it becomes on that broker and which of its guarantees the broker gives itself (native), anybroker adds (emulated), or nobody can give (unsupported: refused at start). It sends nothing and takes nothing; the rights to write and to consume can therefore not be proven here, and are told as unknown.

With --plan it connects to nothing, and says what a move to another broker would mean for these destinations: what the other refuses, and what it does otherwise. That is the first question of a migration.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
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
      "a list: `destination`, `physical` (`main`, `deadLetters`, `suspects`), `asks` (`capability`, `support`), `standing` (null with `--plan`), `messages`, `deadLetters` and `suspects` (counts; null where they are not known)",
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
    const wanted =
      destinations.length === 0 ? known : destinations.map((text) => destinationOf(findTarget(text, known)));
    if (plan) return comparePlan(frame, wanted, from, to);
    if (from !== undefined || to !== undefined) throw new CommandError("usage", "--from and --to are for --plan");
    return examine(frame, wanted);
  },
});

async function comparePlan(
  frame: Frame,
  wanted: readonly Destination[],
  from: string | undefined,
  to: string | undefined,
): Promise<Ended> {
  if (to === undefined)
    throw new CommandError("usage", "--plan takes the broker to move to: --to kafka://localhost, or its name");
  const { configuration, context, secrets, terminal } = frame;
  const sources = { configuration, env: context.env, secrets };
  const before = from === undefined ? chosenBroker(frame) : chooseBroker(sources, from, "--from");
  const after = chooseBroker(sources, to, "--to");
  const [here, there] = [await before.adapter(), await after.adapter()];
  const required = configuration.require ?? [];
  const comparison = compareBrokers(here, there, wanted);
  const { differences, lost } = comparison;
  const refused = declarationsOf(wanted).problems(there, required).map(toldProblem);
  const plan = { to: after.label, adapter: there.name, differences, lost, refused };
  return {
    json: {
      ...known(before.label, here, wanted, required),
      version: null,
      servers: null,
      checks: [],
      destinations: wanted.map((one) => ({
        ...shownOf(here, one),
        standing: null,
        messages: null,
        deadLetters: null,
        suspects: null,
      })),
      plan,
    },
    text: planText(terminal.paint, `${here.name} ${before.label}`, `${there.name} ${after.label}`, comparison, refused),
    exit: refused.length > 0 ? "unavailable" : "done",
  };
}

function known(
  label: string,
  adapter: Adapter,
  wanted: readonly Destination[],
  required: Frame["configuration"]["require"],
) {
  const { capabilities } = adapter;
  return {
    broker: label,
    adapter: adapter.name,
    capabilities: Object.fromEntries(
      CAPABILITY_NAMES.map((name) => [name, { support: capabilities[name].support, note: capabilities[name].note }]),
    ),
    limits: limitsOf(capabilities),
    problems: declarationsOf(wanted)
      .problems(adapter, required ?? [])
      .map(toldProblem),
  };
}

function limitsOf({ maxMessageBytes, maxHeaders, maxHeaderBytes, priority }: Capabilities) {
  return { maxMessageBytes, maxHeaders, maxHeaderBytes, priorities: priority.levels };
}

function shownOf(adapter: Adapter, destination: Destination) {
  return {
    destination: describeDestination(destination),
    physical: physicalOf(adapter, destination),
    asks: asksOf(destination).map((capability) => ({ capability, support: adapter.capabilities[capability].support })),
  };
}

async function examine(frame: Frame, wanted: readonly Destination[]): Promise<Ended> {
  return withBroker(frame, { destinations: [], declare: "none" }, async ({ adapter, label }) => {
    const checks: Check[] = [{ check: "connect", status: "ok", message: "connected, and logged in" }];
    const { version, servers } = await details(adapter, checks);
    const compared = await compare(adapter, wanted);
    const destinations = [];
    for (const [index, one] of wanted.entries()) {
      const standing: Standing = compared[index]?.standing ?? "unknown";
      const counts = await countsOf(adapter, one, standing, checks);
      destinations.push({ ...shownOf(adapter, one), standing, ...counts });
    }
    for (const { destination, standing, problems } of compared) {
      const status = standing === "same" ? "ok" : standing === "unknown" ? "unknown" : "failed";
      const message = problems.map((problem) => problem.message).join("; ") || "stands as declared";
      checks.push({ check: `look at ${destination}`, status, message });
    }
    checks.push({
      check: "write and consume",
      status: "unknown",
      message: "only sending and taking would prove these rights, and nothing is sent or taken here",
    });
    const about = known(label, adapter, wanted, frame.configuration.require);
    const json = { ...about, version, servers, checks, destinations, plan: null };
    const refused = about.problems.length > 0;
    const amiss = checks.some(({ status }) => status === "failed");
    return { json, text: examinedText(frame, json), exit: refused ? "unavailable" : amiss ? "configuration" : "done" };
  });
}

async function details(adapter: Adapter, checks: Check[]) {
  try {
    const found = await serverDetails(adapter);
    const told =
      found.version ?? (found.servers === null ? undefined : `${found.servers} brokers; Kafka tells no version`);
    checks.push({
      check: "version",
      status: told === undefined ? "unknown" : "ok",
      message: told ?? `${adapter.name} tells none`,
    });
    return found;
  } catch (error) {
    checks.push({
      check: "version",
      status: "unknown",
      message: error instanceof Error ? error.message : String(error),
    });
    return { version: null, servers: null };
  }
}

async function countsOf(adapter: Adapter, destination: Destination, standing: Standing, checks: Check[]) {
  const nothing = { messages: null, deadLetters: null, suspects: null };
  if (destination.kind === "topic" || standing === "missing") return nothing;
  const target = findTarget(describeDestination(destination), [destination]);
  const of = addressOf(target) as WorkAddress;
  try {
    const [messages, deadLetters, suspects] = await Promise.all([
      adapter.depth(of),
      adapter.depth({ kind: "dead-letters", of }),
      adapter.depth({ kind: "suspects", of }),
    ]);
    checks.push({ check: `count ${describeDestination(destination)}`, status: "ok", message: "may be counted" });
    return {
      messages: standingCount(messages),
      deadLetters: standingCount(deadLetters),
      suspects: standingCount(suspects),
    };
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    checks.push({ check: `count ${describeDestination(destination)}`, status: "failed", message: error.message });
    return nothing;
  }
}

interface Examined {
  readonly broker: string;
  readonly adapter: string;
  readonly version: string | null;
  readonly checks: readonly Check[];
  readonly capabilities: Readonly<Record<string, { readonly support: string; readonly note: string }>>;
  readonly limits: Readonly<Record<string, number>>;
  readonly destinations: readonly (ReturnType<typeof shownOf> & {
    messages: number | null;
    deadLetters: number | null;
  })[];
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

function examinedText({ terminal: { paint } }: Frame, examined: Examined): string {
  const mark = { ok: paint.green("ok"), failed: paint.red("failed"), unknown: paint.yellow("unknown") };
  const { checks, destinations, capabilities, limits, problems } = examined;
  const parts = [
    `${paint.bold(examined.adapter)} ${examined.version ?? ""} ${paint.dim(examined.broker)}`,
    columns(
      paint,
      ["CHECK", "", ""],
      checks.map(({ check, status, message }) => [check, { painted: mark[status] }, message]),
    ),
    columns(
      paint,
      ["CAPABILITY", "", ""],
      Object.entries(capabilities).map(([name, { support, note }]) => [
        name,
        { painted: paintSupport(paint, support) },
        note,
      ]),
    ),
    columns(paint, ["LIMIT", ""], Object.entries(limits)),
  ];
  if (destinations.length > 0) {
    const rows = destinations.map(({ destination, physical, asks, messages, deadLetters }) => [
      destination,
      physical.main,
      asks.map(({ capability, support }) => `${capability} (${support})`).join(", "),
      messages,
      deadLetters,
    ]);
    parts.push(columns(paint, ["DESTINATION", "ON THE BROKER", "ASKS FOR", "MESSAGES", "DEAD"], rows));
  }
  return [...parts, ...problems.map(({ code, message }) => `${paint.red(code)} ${message}`)].join("\n\n");
}
