import { serverVersion } from "../adapters/rabbitmq/server-version.ts";
import type { Adapter } from "../core/adapter.ts";
import type { WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { thrownText } from "../core/foreign.ts";
import { aboutBroker, aboutDestination } from "./about-broker.ts";
import {
  type Check,
  delayChecks,
  placeText,
  policyChecks,
  type ServerDetails,
  serverDetails,
  standingCount,
} from "./broker-details.ts";
import { columns } from "./columns.ts";
import { type Frame, withBroker } from "./frame.ts";
import { paintSupport } from "./plan-text.ts";
import { compare, type Standing } from "./standing.ts";
import { addressOf, describeDestination, findTarget } from "./target.ts";
import type { Ended } from "./verb.ts";

/** Connects, looks, counts, and tells what was found. */
export async function examine(frame: Frame, wanted: readonly Destination[]): Promise<Ended> {
  return withBroker(frame, { destinations: [] }, async ({ adapter, label }) => {
    const checks: Check[] = [
      { check: "connect", status: "ok", message: `connected${placeText(adapter)}, and logged in` },
    ];
    const { version, servers } = await details(adapter, checks);
    checks.push(...(await policyChecks(adapter, wanted)), ...(await delayChecks(adapter)));
    const compared = await compare(adapter, wanted);
    const destinations = [];
    for (const [index, one] of wanted.entries()) {
      const standing: Standing = compared[index]?.standing ?? "unknown";
      const counts = await countsOf(adapter, one, standing, checks);
      destinations.push({ ...aboutDestination(adapter, one), standing, ...counts });
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
    const about = aboutBroker(label, adapter, wanted, frame.configuration.require ?? []);
    const json = { ...about, version, servers, checks, destinations, plan: null };
    const refused = about.problems.length > 0;
    const amiss = checks.some(({ status }) => status === "failed");
    return { json, text: examinedText(frame, json), exit: refused ? "unavailable" : amiss ? "configuration" : "done" };
  });
}

async function details(adapter: Adapter, checks: Check[]) {
  try {
    const found = await serverDetails(adapter);
    checks.push({ check: "version", ...versionCheck(adapter.name, found) });
    return found;
  } catch (error) {
    const message = thrownText(error);
    checks.push({ check: "version", status: "unknown", message });
    return { version: null, servers: null };
  }
}

function versionCheck(broker: string, { version, servers }: ServerDetails): Pick<Check, "status" | "message"> {
  if (version !== null) {
    // Only RabbitMQ tells one.
    if (serverVersion(version).atLeast(3, 10)) return { status: "ok", message: version };
    return { status: "failed", message: `${version} is too old: anybroker is for RabbitMQ 3.10 and later` };
  }
  if (servers !== null) return { status: "ok", message: `${servers} servers, which tell no version` };
  return { status: "unknown", message: `${broker} tells none` };
}

async function countsOf(adapter: Adapter, destination: Destination, standing: Standing, checks: Check[]) {
  const nothing = { messages: null, deadLetters: null };
  if (destination.kind === "topic" || standing === "missing") return nothing;
  const target = findTarget(describeDestination(destination), [destination]);
  const of = addressOf(target) as WorkAddress;
  try {
    const [messages, deadLetters] = await Promise.all([adapter.depth(of), adapter.depth({ kind: "dead-letters", of })]);
    checks.push({ check: `count ${describeDestination(destination)}`, status: "ok", message: "may be counted" });
    return {
      messages: standingCount(messages),
      deadLetters: standingCount(deadLetters),
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
  readonly destinations: readonly (ReturnType<typeof aboutDestination> & {
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
