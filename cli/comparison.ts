import type { RabbitMQAdapter } from "../adapters/rabbitmq/index.ts";
import type { Adapter, Topology } from "../core/adapter.ts";
import { Declarations } from "../core/declarations.ts";
import type { Destination } from "../core/destination.ts";
import { DECLARE_IT, isMessagingError, type MessagingError, SET_IT } from "../core/errors.ts";
import type { Comparison, Difference } from "../patterns/migration/index.ts";
import { columns } from "./columns.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import { ADDRESS_SYNTAX, describeDestination, destinationOf, findTarget } from "./target.ts";
import type { Paint } from "./terminal.ts";
import { toldText } from "./wording.ts";

/** The state of a destination on the broker. */
export type DestinationState = "same" | "missing" | "different" | "undeclared" | "unknown";

/** The JSON of a problem. */
export interface ProblemJson {
  readonly code: string;
  readonly message: string;
}

/** A destination compared with the broker. */
export interface Compared {
  readonly destination: string;
  readonly state: DestinationState;
  readonly problems: readonly MessagingError[];
  /** A similar name that exists, if this one is missing. */
  readonly meant?: string;
}

/** The named destinations, or else those of the configuration. Throws a `CommandError` if there are none. */
export function wantedDestinations({ configuration }: Frame, addresses: readonly string[]): readonly Destination[] {
  const { destinations = [] } = configuration;
  const wanted =
    addresses.length === 0 ? destinations : addresses.map((text) => destinationOf(findTarget(text, destinations)));
  if (wanted.length > 0) return wanted;
  throw new CommandError(
    "usage",
    `no destinations: name some, such as ${ADDRESS_SYNTAX}, or write anybroker.config.ts with destinations`,
  );
}

/** The declarations of destinations for an adapter. Throws `conflict` if two contradict each other. */
export function declarationsOf(destinations: readonly Destination[]): Declarations {
  const declarations = new Declarations();
  for (const one of destinations) {
    if (one.kind === "queue") declarations.addQueue(one);
    else if (one.kind === "topic") declarations.addTopic(one);
    else declarations.addSubscription(one.topic, one.name, one.options);
  }
  return declarations;
}

/** Compares each destination with an open broker. Changes nothing. */
export async function compare(adapter: Adapter, destinations: readonly Destination[]): Promise<readonly Compared[]> {
  const compared: Compared[] = [];
  for (const destination of destinations) {
    const topology: Topology = declarationsOf([destination]).topology("verify");
    const { problems, unverified } = await verified(adapter, topology);
    compared.push({
      destination: describeDestination(destination),
      state: problems.length === 0 && unverified.length > 0 ? "unknown" : stateOf(problems),
      problems: [...problems, ...unverified],
    });
  }
  return compared;
}

interface Verified {
  readonly problems: readonly MessagingError[];
  /** What could not be compared. */
  readonly unverified: readonly MessagingError[];
}

async function verified(adapter: Adapter, topology: Topology): Promise<Verified> {
  try {
    const own = adapter.name === "rabbitmq" ? (adapter as Partial<RabbitMQAdapter>).verify?.(topology) : undefined;
    return (await own) ?? { problems: await adapter.declare(topology), unverified: [] };
  } catch (error) {
    if (isMessagingError(error)) return { problems: [error], unverified: [] };
    throw error;
  }
}

function stateOf(problems: readonly MessagingError[]): DestinationState {
  const codes = problems.map(({ code }) => code);
  if (codes.length === 0) return "same";
  if (codes.includes("conflict") || codes.includes("unsupported") || codes.includes("invalid")) return "different";
  return codes.every((code) => code === "not-found") ? "missing" : "unknown";
}

/** Whether `topology create` sets right what differs. Otherwise it stays as it is. */
export function isSetByCreate({ code, message }: MessagingError): boolean {
  return code === "conflict" && [DECLARE_IT, SET_IT].some((advice) => message.includes(advice));
}

/** The JSON of a comparison. */
export function comparedJson(compared: Compared): object {
  return { ...compared, problems: compared.problems.map(problemJson) };
}

/** The JSON of a problem. */
export function problemJson(error: MessagingError): ProblemJson {
  return { code: error.code, message: toldText(error) };
}

/** The text of a comparison of two brokers. Refused destinations come first. */
export function planText(
  paint: Paint,
  from: string,
  to: string,
  { differences }: Comparison,
  refused: readonly ProblemJson[],
): string {
  const rows = differences.map(({ name, from: before, to: after, kind, askedBy, note }) => [
    name,
    painted(paint, before),
    painted(paint, after),
    { painted: paintKind(paint, kind) },
    askedBy.join(", "),
    note,
  ]);
  const verdict =
    refused.length === 0
      ? paint.green("the target broker takes every destination")
      : [
          paint.red("the target broker refuses:"),
          ...refused.map(({ code, message }) => `  ${paint.red(code)} ${message}`),
        ].join("\n");
  const table =
    rows.length === 0
      ? "the two brokers do not differ"
      : columns(paint, ["", "FROM", "TO", "", "USED BY", "ON THE TARGET"], rows);
  return [`from ${paint.bold(from)}\nto   ${paint.bold(to)}`, verdict, table].join("\n\n");
}

function painted(paint: Paint, value: Difference["from"]): { readonly painted: string } {
  return { painted: typeof value === "number" ? String(value) : paintSupport(paint, value) };
}

function paintKind(paint: Paint, kind: Difference["kind"]): string {
  if (kind === "lost") return paint.red(kind);
  return kind === "emulated" ? paint.yellow(kind) : paint.green(kind);
}

/** Paints a support level. */
export function paintSupport(paint: Paint, support: string): string {
  if (support === "native") return paint.green(support);
  return support === "emulated" ? paint.yellow(support) : paint.red(support);
}
