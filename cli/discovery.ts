import type { Adapter } from "../core/adapter.ts";
import { addressName, describeAddress, type TopicAddress, type WorkAddress } from "../core/address.ts";
import { type Destination, queue, subscription, topic } from "../core/destination.ts";
import { isMessagingError, MessagingError } from "../core/errors.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import { describeDestination, destinationOf, findWorkTarget } from "./target.ts";

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
 * What may have been meant by the name of something that is not there, of what is known and what stands on the broker, as far
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
export function meantBy(name: string, names: Iterable<string>): string | undefined {
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
