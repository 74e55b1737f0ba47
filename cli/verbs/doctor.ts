import { serverVersion } from "../../adapters/rabbitmq/server-version.ts";
import type { Adapter } from "../../core/adapter.ts";
import type { WorkAddress } from "../../core/address.ts";
import { counted } from "../../core/counted.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { compareBrokers } from "../../patterns/migration/index.ts";
import { aboutBroker, aboutDestination } from "../about-broker.ts";
import {
  type Check,
  deadCountOf,
  deadText,
  delayChecks,
  placeText,
  policyChecks,
  type ServerDetails,
  serverDetails,
  totalCount,
} from "../broker-statistics.ts";
import { columns } from "../columns.ts";
import {
  type Compared,
  compare,
  type DestinationState,
  declarationsOf,
  paintSupport,
  planText,
  problemJson,
} from "../comparison.ts";
import { CommandError } from "../exit-codes.ts";
import {
  chooseBroker,
  chosenBroker,
  type Frame,
  listDestinations,
  madeAdapter,
  missingText,
  withBroker,
} from "../frame.ts";
import { describeDestination, destinationOf, findTarget, findWorkTarget, parseAddress, placeOf } from "../target.ts";
import { type Ended, verb } from "../verb.ts";
import { toldText } from "../wording.ts";

export const doctor = verb({
  name: "doctor",
  summary: "Connect, check rights, version, limits and topology; or compare two brokers",
  teaches: `Connects, checks that every destination exists, counts its messages, and shows which guarantees the broker gives itself (native), anybroker adds (emulated), or start refuses (unsupported). Sends and consumes nothing, so these rights stay unknown.

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
      "`destination`, `physical` (`main`, `deadLetters`, `quarantine`), `asks` (`capability`, `support`), `state`, `messages`, `deadLetters`, `deadLettersHeld`",
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
        state: null,
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

/** A destination of the command line, of the configuration, or of the broker. */
export interface Named {
  readonly destination: Destination;
  /** Whether its options are known. */
  readonly isDeclared: boolean;
}

/** Connects, runs all checks, and reports the results. */
async function examine(frame: Frame, named: readonly Named[]): Promise<Ended> {
  return withBroker(frame, { destinations: [] }, async ({ adapter, label }) => {
    const checks: Check[] = [
      { check: "connect", status: "ok", message: `connected${placeText(adapter)} and logged in` },
    ];
    const { version, servers } = await details(adapter, checks);
    const { destinations: known = [] } = frame.configuration;
    const found = named.length > 0 ? named : await findDestinations(adapter, checks);
    const wanted = found.map(({ destination }) => destination);
    checks.push(...(await policyChecks(adapter, wanted)), ...(await delayChecks(adapter)));
    const compared: Compared[] = [];
    for (const one of found) compared.push(await compareOne(adapter, one));
    const destinations = [];
    for (const [index, one] of wanted.entries()) {
      const state: DestinationState = compared[index]?.state ?? "unknown";
      const counts = await countsOf(adapter, one, state, checks);
      destinations.push({ ...aboutDestination(adapter, one), state, ...counts });
    }
    for (const { destination, state, problems } of compared) {
      const status = state === "same" || state === "undeclared" ? "ok" : state === "unknown" ? "unknown" : "failed";
      const exists = state === "undeclared" ? "exists; no configuration declares it" : "exists as declared";
      const meant = state === "missing" ? await meantText(adapter, destination, known) : "";
      const message =
        [...problems.map((problem) => toldText(problem)), ...(meant === "" ? [] : [meant])].join("; ") || exists;
      checks.push({ check: `compare ${destination}`, status, message });
    }
    checks.push({
      check: "write and consume",
      status: "unknown",
      message: "these rights cannot be checked without sending and consuming, which this command does not do",
    });
    const about = aboutBroker(label, adapter, wanted, frame.configuration.require ?? []);
    const json = { ...about, version, servers, checks, destinations, plan: null };
    const refused = about.problems.length > 0;
    const amiss = checks.some(({ status }) => status === "failed");
    return {
      json,
      text: examinedText(frame, json),
      errors: compared.flatMap(({ problems }) => problems),
      exit: refused ? "unavailable" : amiss ? "configuration" : "done",
    };
  });
}

/** Finds the destinations on the broker. */
async function findDestinations(adapter: Adapter, checks: Check[]): Promise<readonly Named[]> {
  const check = "find destinations";
  try {
    const found = await listDestinations(adapter);
    const message =
      found.length === 0 ? "there are no destinations of anybroker" : `found ${found.length}, without a configuration`;
    checks.push({ check, status: "ok", message });
    return found.map((destination) => ({ destination, isDeclared: false }));
  } catch (error) {
    if (!isMessagingError(error) && !(error instanceof CommandError)) throw error;
    checks.push({ check, status: "failed", message: `no destinations were named, and ${toldText(error)}` });
    return [];
  }
}

async function compareOne(adapter: Adapter, { destination, isDeclared }: Named): Promise<Compared> {
  const name = describeDestination(destination);
  if (isDeclared) {
    const [compared] = await compare(adapter, [destination]);
    return compared ?? { destination: name, state: "unknown", problems: [] };
  }
  try {
    // A topic has no depth, and was listed.
    if (destination.kind !== "topic") await adapter.depth(placeOf(destination));
    return { destination: name, state: "undeclared", problems: [] };
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    const state = error.code === "not-found" ? "missing" : "unknown";
    return { destination: name, state, problems: [error] };
  }
}

/** Suggests a name for a destination that does not exist. */
async function meantText(adapter: Adapter, destination: string, known: readonly Destination[]): Promise<string> {
  const target = findTarget(destination, []);
  if (target.destination.kind === "topic" && target.subscription === undefined) return "";
  const text = await missingText(adapter, placeOf(destinationOf(target)) as WorkAddress, known);
  return text.includes(";") ? text.slice(text.indexOf(";") + 2) : "";
}

async function details(adapter: Adapter, checks: Check[]) {
  try {
    const found = await serverDetails(adapter);
    checks.push({ check: "version", ...versionCheck(adapter.name, found) });
    return found;
  } catch (error) {
    const message = toldText(error);
    checks.push({
      check: "version",
      status: isMessagingError(error, "unreachable") ? "failed" : "unknown",
      message,
    });
    return { version: null, servers: null };
  }
}

function versionCheck(broker: string, { version, servers }: ServerDetails): Pick<Check, "status" | "message"> {
  if (version !== null) {
    // Only RabbitMQ reports a version.
    if (serverVersion(version).atLeast(3, 10)) return { status: "ok", message: version };
    return { status: "failed", message: `${version} is too old: anybroker is for RabbitMQ 3.10 and later` };
  }
  if (servers !== null)
    return { status: "ok", message: `${counted(servers, "server")}; the protocol does not report a version` };
  return { status: "unknown", message: `${broker} does not report it` };
}

async function countsOf(adapter: Adapter, destination: Destination, state: DestinationState, checks: Check[]) {
  const nothing = { messages: null, deadLetters: null, deadLettersHeld: null };
  if (destination.kind === "topic" || state === "missing") return nothing;
  const of = placeOf(destination) as WorkAddress;
  try {
    const [messages, dead] = await Promise.all([adapter.depth(of), deadCountOf(adapter, of)]);
    checks.push({ check: `count ${describeDestination(destination)}`, status: "ok", message: "allowed" });
    return {
      messages: totalCount(messages),
      ...dead,
    };
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    checks.push({ check: `count ${describeDestination(destination)}`, status: "failed", message: toldText(error) });
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
  readonly destinations: readonly (ReturnType<typeof aboutDestination> & {
    messages: number | null;
    deadLetters: number | null;
    deadLettersHeld: number | null;
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
    const rows = destinations.map(({ destination, physical, asks, messages, deadLetters, deadLettersHeld }) => [
      destination,
      physical.main,
      asks.map(({ capability, support }) => `${capability} (${support})`).join(", "),
      messages,
      deadLetters === null ? null : { painted: deadText(paint, { deadLetters, deadLettersHeld }) },
    ]);
    parts.push(
      columns(paint, [{ name: "DESTINATION", when: "whole" }, "ON THE BROKER", "ASKS FOR", "MESSAGES", "DEAD"], rows),
    );
  }
  return [...parts, ...problems.map(({ code, message }) => `${paint.red(code)} ${message}`)].join("\n\n");
}
