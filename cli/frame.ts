import type { Adapter } from "../core/adapter.ts";
import { addressName, describeAddress, type TopicAddress, type WorkAddress, workAddress } from "../core/address.ts";
import type { Broker } from "../core/broker.ts";
import { createBroker } from "../core/create-broker.ts";
import { type Destination, queue, subscription, topic } from "../core/destination.ts";
import { isMessagingError, MessagingError } from "../core/errors.ts";
import type { BrokerEvent } from "../core/events.ts";
import { startFailed } from "../core/start.ts";
import { fromUrl } from "../integrations/url/index.ts";
import { type BrokerChoice, type Configuration, isAdapter } from "./configuration.ts";
import { type Context, type Interruption, unlessAborted, unlessLate } from "./context.ts";
import { CommandError } from "./exit-codes.ts";
import { isUrl, maskUrl, type Secrets } from "./secrets.ts";
import { describeDestination, destinationOf, findWorkTarget } from "./target.ts";
import type { Terminal } from "./terminal.ts";

/** A broker that a command works on. */
interface ChosenBroker {
  /** As it may be shown: its name, or its URL without secrets. */
  readonly label: string;
  /** Makes the adapter, which is not connected. An adapter is opened once. */
  adapter(): Promise<Adapter>;
}

/** Where a choice comes from. */
interface BrokerSources {
  readonly configuration: Configuration;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly secrets: Secrets;
}

/**
 * The broker that was named, by a URL or as in the configuration; else the configuration's, else the environment's
 * `BROKER_URL`. `option` is what names it, for messages.
 */
export function chooseBroker(sources: BrokerSources, given: string | undefined, option = "--broker"): ChosenBroker {
  const { configuration, env, secrets } = sources;
  const { brokers = {} } = configuration;
  if (given !== undefined && !isUrl(given)) {
    const choice = Object.hasOwn(brokers, given) ? brokers[given] : undefined;
    if (choice !== undefined) return chosen(choice, given, secrets);
    const known = Object.keys(brokers).join(", ") || "none";
    const text = `${option} ${given} is no URL, and the configuration names no such broker (it names ${known})`;
    throw new CommandError("usage", text);
  }
  if (given !== undefined) return chosen(given, undefined, secrets);
  if (configuration.broker !== undefined) return chosen(configuration.broker, "broker", secrets);
  const { BROKER_URL = "" } = env;
  if (BROKER_URL !== "") return chosen(BROKER_URL, undefined, secrets);
  const text = `no broker was chosen: give ${option} amqp://localhost (or kafka:, sqs:), set BROKER_URL, or write anybroker.config.ts`;
  throw new CommandError("usage", text);
}

function chosen(choice: BrokerChoice, name: string | undefined, secrets: Secrets): ChosenBroker {
  if (typeof choice === "string") {
    secrets.addUrlsIn(choice);
    return { label: maskUrl(choice), adapter: () => fromUrl(choice) };
  }
  const label = name ?? "broker";
  return { label, adapter: async () => (isAdapter(choice) ? choice : choice()) };
}

/** What stands on an open broker, as destinations without options. Rejects as `Adapter.list`, and with a `CommandError` for an adapter without. */
export async function discovered(adapter: Adapter): Promise<readonly Destination[]> {
  if (adapter.list === undefined) {
    throw new CommandError("unavailable", `${adapter.name} lists nothing: name queues and subscriptions`);
  }
  return (await adapter.list()).map(destinationAt).sort((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1));
}

/**
 * The queues and subscriptions that addresses name, or else those of the configuration; undefined where neither names any.
 * Throws a `CommandError` for topics, which nothing ever waits on.
 */
export function namedWork({ configuration }: Frame, addresses: readonly string[]): readonly Destination[] | undefined {
  const { destinations = [] } = configuration;
  const named = addresses.map((text) => destinationOf(findWorkTarget(text, destinations)));
  const all = named.length > 0 ? named : destinations;
  const work = all.filter(({ kind }) => kind !== "topic");
  if (work.length > 0 || all.length === 0) return work.length === 0 ? undefined : work;
  throw new CommandError("usage", "nothing ever waits on a topic: name queues and subscriptions");
}

/** The queues and subscriptions that stand on an open broker. Rejects with a `CommandError` if there are none. */
export async function workOn(adapter: Adapter): Promise<readonly Destination[]> {
  const work = (await discovered(adapter)).filter(({ kind }) => kind !== "topic");
  if (work.length > 0) return work;
  // Kafka lists what its user may see, and says nothing of the rest.
  const unseen =
    adapter.name === "kafka"
      ? "no queues and subscriptions of anybroker are visible to this user on kafka; if there are some, grant it Describe on their topics and groups"
      : `no queues and subscriptions of anybroker stand on ${adapter.name}`;
  throw new CommandError("not-found", unseen);
}

function destinationAt(address: WorkAddress | TopicAddress): Destination {
  if (address.kind === "queue") return queue(address.name);
  if (address.kind === "topic") return topic(address.name);
  return subscription(topic(address.topic), address.name);
}

function nameOf(destination: Destination): string {
  return destination.kind === "subscription" ? `${destination.topic.name}..${destination.name}` : destination.name;
}

/**
 * That a queue or subscription is not there, with what else may have been meant, of what is known and what stands on the
 * broker, as far as that lists it.
 */
export async function missingText(adapter: Adapter, of: WorkAddress, known: readonly Destination[]): Promise<string> {
  let silence = "";
  const standing = await discovered(adapter).catch((error: unknown) => {
    if (!(error instanceof CommandError) && !isMessagingError(error)) throw error;
    silence = `; what stands there cannot be told: ${error.message}`;
    return [];
  });
  const such = [...known, ...standing];
  const subscriptions = such.flatMap((one) =>
    one.kind === "subscription" && one.topic.name === addressName(of) ? [one.name] : [],
  );
  const [first] = subscriptions;
  const missing = `no ${describeAddress(of)} on ${adapter.name}`;
  if (first !== undefined) {
    return `${missing}: it is a topic, and each subscription has dead letters of its own: write topic:${addressName(of)}/${first}`;
  }
  const meant = meantBy(addressName(of), such.filter(({ kind }) => kind !== "topic").map(nameOf));
  return meant === undefined ? `${missing}${silence}` : `${missing}; did you mean "${meant}"?`;
}

/**
 * What may have been meant by the name of something that is not there, of what is known and what exists on the broker, as far
 * as that lists it: as it is written on a command line. Undefined where nothing is like it.
 */
export async function nearName(
  adapter: Adapter,
  of: WorkAddress | TopicAddress,
  known: readonly Destination[],
): Promise<string | undefined> {
  const standing = await discovered(adapter).catch((error: unknown) => {
    if (!(error instanceof CommandError) && !isMessagingError(error)) throw error;
    return [];
  });
  const such = [...known, ...standing].filter(({ kind }) => (kind === "topic") === (of.kind === "topic"));
  const meant = meantBy(addressName(of), such.map(nameOf));
  const found = such.find((one) => nameOf(one) === meant);
  return found === undefined ? undefined : describeDestination(found);
}

/** The error of something that is not there, with what may have been meant by its name. */
export async function nearNameFirst(
  error: MessagingError,
  adapter: Adapter,
  of: WorkAddress | TopicAddress,
  known: readonly Destination[],
): Promise<MessagingError> {
  const meant = await nearName(adapter, of, known);
  if (meant === undefined) return error;
  const text = `no ${describeAddress(of)} on ${adapter.name}; did you mean "${meant}"? If not: ${error.message}`;
  return new MessagingError("not-found", text, { cause: error });
}

/** The name that is most like another, if any is like it. */
function meantBy(name: string, names: Iterable<string>): string | undefined {
  const most = Math.max(1, Math.floor(name.length / 3));
  let best: string | undefined;
  let least = most + 1;
  for (const one of names) {
    const distance = distanceOf(name.toLowerCase(), one.toLowerCase());
    if (one === name || distance >= least) continue;
    [best, least] = [one, distance];
  }
  return best;
}

/** How many letters have to be put in, left out, changed, or changed with their neighbour (Damerau and Levenshtein). */
function distanceOf(one: string, other: string): number {
  let before: number[] = [];
  let last = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let at = 1; at <= one.length; at++) {
    const row = [at];
    for (let to = 1; to <= other.length; to++) {
      const same = one[at - 1] === other[to - 1];
      const cell = (from: readonly number[], index: number): number => from[index] as number;
      let least = Math.min(cell(last, to) + 1, cell(row, to - 1) + 1, cell(last, to - 1) + (same ? 0 : 1));
      if (at > 1 && to > 1 && one[at - 1] === other[to - 2] && one[at - 2] === other[to - 1]) {
        least = Math.min(least, cell(before, to - 2) + 1);
      }
      row.push(least);
    }
    [before, last] = [last, row];
  }
  return last[other.length] as number;
}

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
interface OpenOptions {
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
