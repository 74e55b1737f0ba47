import type { Adapter } from "../core/adapter.ts";
import { type TopicAddress, type WorkAddress, workAddress } from "../core/address.ts";
import type { Broker } from "../core/broker.ts";
import { createBroker } from "../core/create-broker.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError, type MessagingError } from "../core/errors.ts";
import type { BrokerEvent } from "../core/events.ts";
import { startFailed } from "../core/start.ts";
import { type ChosenBroker, chooseBroker } from "./broker-choice.ts";
import type { Configuration } from "./configuration.ts";
import type { Context } from "./context.ts";
import { nearNameFirst } from "./discovery.ts";
import { CommandError } from "./exit-codes.ts";
import { type Interruption, unlessAborted, unlessLate } from "./interruption.ts";
import type { Secrets } from "./secrets.ts";
import type { Terminal } from "./terminal.ts";

/** What every command works with. */
export interface Frame {
  readonly context: Context;
  readonly terminal: Terminal;
  readonly interruption: Interruption;
  readonly secrets: Secrets;
  readonly configuration: Configuration;
  /** What `--broker` was given. */
  readonly broker: string | undefined;
}

/** A broker object that is started, and its adapter. */
export interface OpenBroker {
  readonly broker: Broker;
  readonly adapter: Adapter;
  readonly label: string;
}

/** What a broker object is made with. */
export interface OpenOptions {
  /** What has to stand. With which properties is not looked at: on the command line few options are given. */
  readonly destinations: readonly Destination[];
  /** Default: what `--broker` says. */
  readonly chosen?: ChosenBroker;
  /** What breaks the starting off. Default: the interruption. */
  readonly signal?: AbortSignal;
}

const MAKING_MS = 60_000;
const STOP_MS = 10_000;
const CLOSING_MS = 10_000;

/** The broker of the command. Throws a `CommandError` if there is none. */
export function chosenBroker({ configuration, context, secrets, broker }: Frame): ChosenBroker {
  return chooseBroker({ configuration, env: context.env, secrets }, broker);
}

/** Makes the adapter of a broker, which is not connected. A function of the configuration may take its time, and not for ever. */
export function madeAdapter(
  { context, interruption }: Frame,
  { label, adapter }: ChosenBroker,
  signal: AbortSignal = interruption.signal,
): Promise<Adapter> {
  const late = (): CommandError => {
    const text = `${label} was not made within ${MAKING_MS / 1_000} s; look at what its function in the configuration awaits`;
    return new CommandError("unavailable", text);
  };
  return unlessAborted(unlessLate(adapter(), context, MAKING_MS, late), signal);
}

/**
 * Starts a broker object, lets it be used, and stops it whatever happened. Rejects with the signal's reason when
 * it is aborted before that is started.
 */
export async function withBroker<Result>(
  frame: Frame,
  { destinations, chosen = chosenBroker(frame), signal = frame.interruption.signal }: OpenOptions,
  use: (open: OpenBroker) => Promise<Result>,
): Promise<Result> {
  const adapter = await madeAdapter(frame, chosen, signal);
  const onEvent = (event: BrokerEvent): void => tell(frame, chosen.label, event);
  const broker = createBroker(adapter, { destinations, declare: "none", onEvent });
  try {
    await unlessAborted(broker.start(), signal);
    await unlessAborted(mustStand(adapter, destinations, frame.configuration), signal);
    return await use({ broker, adapter, label: chosen.label });
  } finally {
    await stopped(frame, broker, chosen.label);
  }
}

/** A user who may send or consume need not be allowed to look: what does not stand then shows when it is used. */
async function mustStand(
  adapter: Adapter,
  destinations: readonly Destination[],
  { destinations: known = [] }: Configuration,
): Promise<void> {
  const problems: MessagingError[] = [];
  for (const destination of destinations) {
    const place = placeOf(destination);
    try {
      await adapter.depth(place);
    } catch (error) {
      if (isMessagingError(error, "not-found")) problems.push(await nearNameFirst(error, adapter, place, known));
      else if (!isMessagingError(error)) throw error;
    }
  }
  if (problems.length > 0) throw startFailed(problems);
}

/** Where a destination is. */
export function placeOf(destination: Destination): WorkAddress | TopicAddress {
  if (destination.kind === "subscription") return workAddress(destination.topic.name, destination.name);
  return { kind: destination.kind, name: destination.name };
}

/** Stops a broker object. The result of the command stands, however long that takes. */
async function stopped({ context, terminal }: Frame, broker: Broker, label: string): Promise<void> {
  const late = new CommandError("unavailable", "");
  const stopping = broker.stop({ timeoutMs: STOP_MS });
  await unlessLate(stopping, context, STOP_MS + CLOSING_MS, () => late).catch((error: unknown) => {
    if (error !== late) throw error;
    const waitedMs = STOP_MS + CLOSING_MS;
    terminal.note(`the connections to ${label} were not closed within ${waitedMs / 1_000} s, and are left behind`);
  });
}

/** What people should know of while a command runs. */
function tell({ terminal, secrets }: Frame, label: string, event: BrokerEvent): void {
  const note = (text: string): void => terminal.note(terminal.notePaint.yellow(secrets.masked(`${label}: ${text}`)));
  if (event.type === "down") note(`the connection is lost, connecting again: ${event.error.message}`);
  else if (event.type === "up") note("connected again");
  else if (event.type === "blocked") note(`takes no messages for now: ${event.reason}`);
  else if (event.type === "unblocked") note("takes messages again");
  else if (event.type === "notice") note(event.error.message);
}
