import type { Adapter } from "../core/adapter.ts";
import { addressName, describeAddress, type TopicAddress, type WorkAddress } from "../core/address.ts";
import type { Broker } from "../core/broker.ts";
import { createBroker } from "../core/create-broker.ts";
import { type Destination, queue, subscription, topic } from "../core/destination.ts";
import { isMessagingError, MessagingError } from "../core/errors.ts";
import type { BrokerEvent } from "../core/events.ts";
import { startFailed } from "../core/start.ts";
import { fromUrl } from "../integrations/url/index.ts";
import { nearest } from "../integrations/url/query.ts";
import { type BrokerChoice, type Configuration, isAdapter } from "./configuration.ts";
import { type Context, type Interruption, unlessAborted, unlessLate } from "./context.ts";
import { CommandError, called } from "./exit-codes.ts";
import { isUrl, maskUrl, type Secrets } from "./secrets.ts";
import { describeDestination, destinationOf, findWorkTarget, placeOf } from "./target.ts";
import type { Terminal } from "./terminal.ts";
import { inCommands, toldText } from "./wording.ts";

/** A chosen broker. */
interface ChosenBroker {
  /** The name, or the URL without secrets. */
  readonly label: string;
  /** Makes the adapter, which is not connected. An adapter is opened only once. */
  adapter(): Promise<Adapter>;
}

/** The sources of a choice. */
interface BrokerSources {
  readonly configuration: Configuration;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly secrets: Secrets;
}

/**
 * Chooses the broker: by name or URL if given, otherwise the configuration's, otherwise the environment's `BROKER_URL`.
 * `option` is the option's name, for messages.
 */
export function chooseBroker(sources: BrokerSources, given: string | undefined, option = "--broker"): ChosenBroker {
  const { configuration, env, secrets } = sources;
  const { brokers = {} } = configuration;
  if (given !== undefined && !isUrl(given)) {
    const choice = Object.hasOwn(brokers, given) ? brokers[given] : undefined;
    if (choice !== undefined) return chosen(choice, given, secrets);
    const known = Object.keys(brokers).join(", ") || "none";
    const text = `${option} ${given} is no URL, and the configuration has no such broker (it has ${known})`;
    throw new CommandError("usage", text);
  }
  if (given !== undefined) return chosen(given, undefined, secrets);
  if (configuration.broker !== undefined) return chosen(configuration.broker, "broker", secrets);
  const { BROKER_URL = "" } = env;
  if (BROKER_URL !== "") return chosen(BROKER_URL, undefined, secrets);
  const text = `no broker is chosen: use ${option} amqp://localhost (or kafka:, sqs:), set BROKER_URL, or write anybroker.config.ts`;
  throw new CommandError("usage", text);
}

function chosen(choice: BrokerChoice, name: string | undefined, secrets: Secrets): ChosenBroker {
  if (typeof choice === "string") {
    secrets.addUrlsIn(choice);
    return { label: maskUrl(choice), adapter: () => fromUrl(choice) };
  }
  const label = name ?? "broker";
  return {
    label,
    adapter: async () =>
      isAdapter(choice) ? choice : called(label === "broker" ? "broker()" : `brokers.${label}()`, choice),
  };
}

/**
 * Lists the destinations on an open broker, without options. Rejects as `Adapter.list` does, and with a `CommandError` for an
 * adapter without it.
 */
export async function listDestinations(adapter: Adapter): Promise<readonly Destination[]> {
  if (adapter.list === undefined) {
    throw new CommandError("unavailable", `${adapter.name} cannot list destinations: name queues and subscriptions`);
  }
  return (await adapter.list()).map(destinationAt).sort((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1));
}

/**
 * The queues and subscriptions that are named, or else those of the configuration; undefined if there are none. Throws a
 * `CommandError` if only topics are named, since messages do not wait on a topic.
 */
export function namedWork({ configuration }: Frame, addresses: readonly string[]): readonly Destination[] | undefined {
  const { destinations = [] } = configuration;
  const named = addresses.map((text) => destinationOf(findWorkTarget(text, destinations)));
  const all = named.length > 0 ? named : destinations;
  const work = all.filter(({ kind }) => kind !== "topic");
  if (work.length > 0 || all.length === 0) return work.length === 0 ? undefined : work;
  throw new CommandError("usage", "messages do not wait on a topic: name queues and subscriptions");
}

/** The queues and subscriptions on an open broker. Rejects with a `CommandError` if there are none. */
export async function workOn(adapter: Adapter): Promise<readonly Destination[]> {
  const work = (await listDestinations(adapter)).filter(({ kind }) => kind !== "topic");
  if (work.length > 0) return work;
  // Kafka lists what its user may see, without a word about the rest.
  const none =
    adapter.name === "kafka"
      ? "this user sees no queues and subscriptions of anybroker on kafka; if there are some, grant it Describe on their topics and groups"
      : `there are no queues and subscriptions of anybroker on ${adapter.name}`;
  throw new CommandError("not-found", none);
}

function destinationAt(address: WorkAddress | TopicAddress): Destination {
  if (address.kind === "queue") return queue(address.name);
  if (address.kind === "topic") return topic(address.name);
  return subscription(topic(address.topic), address.name);
}

function nameOf(destination: Destination): string {
  return destination.kind === "subscription" ? `${destination.topic.name}..${destination.name}` : destination.name;
}

/** Says that a queue or subscription does not exist, and suggests an existing name. */
export async function missingText(adapter: Adapter, of: WorkAddress, known: readonly Destination[]): Promise<string> {
  const { existing, silence } = await existingOf(adapter, known);
  const [first] = existing.flatMap((one) =>
    one.kind === "subscription" && one.topic.name === addressName(of) ? [one.name] : [],
  );
  const missing = `no ${describeAddress(of)} on ${adapter.name}`;
  if (first !== undefined) {
    return `${missing}: it is a topic, and each subscription has its own dead letters: write topic:${addressName(of)}/${first}`;
  }
  const meant = meantBy(
    of,
    existing.filter(({ kind }) => kind !== "topic"),
  );
  return meant === undefined ? `${missing}${silence}` : `${missing}; did you mean "${nameOf(meant)}"?`;
}

/** Suggests an existing name for a destination that does not exist; undefined if none is similar. */
export async function nearName(
  adapter: Adapter,
  of: WorkAddress | TopicAddress,
  known: readonly Destination[],
): Promise<string | undefined> {
  const { existing } = await existingOf(adapter, known);
  const meant = meantBy(
    of,
    existing.filter(({ kind }) => (kind === "topic") === (of.kind === "topic")),
  );
  return meant === undefined ? undefined : describeDestination(meant);
}

/** Adds a suggestion to the error of a destination that does not exist. */
export async function nearNameFirst(
  error: MessagingError,
  adapter: Adapter,
  of: WorkAddress | TopicAddress,
  known: readonly Destination[],
): Promise<MessagingError> {
  const meant = await nearName(adapter, of, known);
  if (meant === undefined) return error;
  const [what, ...advice] = error.message.split("; ");
  const text = [`${what} (did you mean "${meant}"?)`, ...advice].join("; ");
  return new MessagingError("not-found", text, { cause: error });
}

/** The existing destinations. If the broker cannot list them, those of the configuration that exist; `silence` says why. */
async function existingOf(
  adapter: Adapter,
  known: readonly Destination[],
): Promise<{ readonly existing: readonly Destination[]; readonly silence: string }> {
  try {
    return { existing: await listDestinations(adapter), silence: "" };
  } catch (error) {
    if (!(error instanceof CommandError) && !isMessagingError(error)) throw error;
    const exist = await Promise.all(known.map((one) => doesExist(adapter, one)));
    const silence = `; its destinations cannot be listed: ${toldText(error)}`;
    return { existing: known.filter((_, index) => exist[index]), silence };
  }
}

/** Whether a destination is seen on an open broker. */
export async function doesExist(adapter: Adapter, destination: Destination): Promise<boolean> {
  try {
    await adapter.depth(placeOf(destination));
    return true;
  } catch (error) {
    if (isMessagingError(error)) return false;
    throw error;
  }
}

/** The destination with the most similar name, if one is similar. */
function meantBy(of: WorkAddress | TopicAddress, existing: readonly Destination[]): Destination | undefined {
  const others = existing.filter((one) => nameOf(one) !== addressName(of));
  const name = nearest(addressName(of), others.map(nameOf));
  return others.find((one) => nameOf(one) === name);
}

/** The environment of a running command. */
export interface Frame {
  readonly context: Context;
  readonly terminal: Terminal;
  readonly interruption: Interruption;
  readonly secrets: Secrets;
  readonly configuration: Configuration;
  /** The value of `--broker`. */
  readonly broker: string | undefined;
}

/** A started broker object with its adapter. */
export interface OpenBroker {
  readonly broker: Broker;
  readonly adapter: Adapter;
  readonly label: string;
}

/** The options of {@link withBroker}. */
interface OpenOptions {
  /** They must exist. Their properties are not compared: a command line has few options. */
  readonly destinations: readonly Destination[];
  /** Default: the broker of `--broker`. */
  readonly chosen?: ChosenBroker;
  /** Cancels the start. Default: the interruption. */
  readonly signal?: AbortSignal;
  /** Gets notices of the broker. Default: they are shown. */
  readonly onNotice?: (error: MessagingError) => void;
}

const MAKING_MS = 60_000;
const STOP_MS = 10_000;
const CLOSING_MS = 10_000;

/** The broker of the command. Throws a `CommandError` if there is none. */
export function chosenBroker({ configuration, context, secrets, broker }: Frame): ChosenBroker {
  return chooseBroker({ configuration, env: context.env, secrets }, broker);
}

/** Makes an adapter without connecting it, with a timeout for functions of the configuration. */
export function madeAdapter(
  { context, interruption }: Frame,
  { label, adapter }: ChosenBroker,
  signal: AbortSignal = interruption.signal,
): Promise<Adapter> {
  const late = (): CommandError => {
    const text = `${label} was not made within ${MAKING_MS / 1_000} s; check what its function in the configuration waits for`;
    return new CommandError("unavailable", text);
  };
  return unlessAborted(unlessLate(adapter(), context, MAKING_MS, late), signal);
}

/** Starts a broker object, calls `use`, and always stops it. Rejects with the signal's reason if the start is cancelled. */
export async function withBroker<Result>(
  frame: Frame,
  { destinations, chosen = chosenBroker(frame), signal = frame.interruption.signal, onNotice }: OpenOptions,
  use: (open: OpenBroker) => Promise<Result>,
): Promise<Result> {
  const adapter = await madeAdapter(frame, chosen, signal);
  const onEvent = (event: BrokerEvent): void => {
    if (event.type === "notice" && onNotice !== undefined) onNotice(event.error);
    else noteEvent(frame, chosen.label, event);
  };
  const broker = createBroker(adapter, { destinations, declare: "none", onEvent });
  try {
    await unlessAborted(broker.start(), signal);
    await unlessAborted(requireDestinations(adapter, destinations, frame.configuration), signal);
    return await use({ broker, adapter, label: chosen.label });
  } finally {
    await stopBroker(frame, broker, chosen.label);
  }
}

/** Errors of missing rights are ignored: a user who may send or consume need not have the right to look. */
async function requireDestinations(
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

/** Stops a broker object. A slow stop does not change the command's result. */
async function stopBroker({ context, terminal }: Frame, broker: Broker, label: string): Promise<void> {
  const late = new CommandError("unavailable", "");
  const stopping = broker.stop({ timeoutMs: STOP_MS });
  await unlessLate(stopping, context, STOP_MS + CLOSING_MS, () => late).catch((error: unknown) => {
    if (error !== late) throw error;
    const waitedMs = STOP_MS + CLOSING_MS;
    terminal.note(`the connections to ${label} were not closed within ${waitedMs / 1_000} s`);
  });
}

/** Who works here, for audits and histories. */
export function operatorOf({ configuration, context: { env } }: Frame): string {
  return configuration.by ?? env.USER ?? env.LOGNAME ?? env.USERNAME ?? "unknown";
}

/** Notes events of a broker while a command runs. */
function noteEvent(frame: Frame, label: string, event: BrokerEvent): void {
  const note = (text: string): void => noteOf(frame, label, text);
  if (event.type === "down") note(`the connection is lost, reconnecting: ${event.error.message}`);
  else if (event.type === "up") note("reconnected");
  else if (event.type === "blocked") note(`it accepts no messages now: ${event.reason}`);
  else if (event.type === "unblocked") note("it accepts messages again");
  else if (event.type === "notice") note(event.error.message);
}

/** Notes something of a broker. */
export function noteOf({ terminal, secrets }: Frame, label: string, text: string): void {
  terminal.note(terminal.notePaint.yellow(secrets.masked(`${label}: ${inCommands(text)}`)));
}
