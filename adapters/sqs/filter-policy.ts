import { routingMatches } from "../../core/routing.ts";
import { ROUTING_KEY } from "./message-codec.ts";

/** What SNS can see of a filter: the routing keys that are this, or begin so. Undefined if every key may match. */
interface Visible {
  readonly exact: readonly string[];
  readonly prefix: string | undefined;
}

/** SNS cannot say "any one word": it sees a filter up to its first wildcard. */
function visibleOf(filter: string | undefined): Visible | undefined {
  if (filter === undefined || filter === "#") return undefined;
  const words = filter.split(".");
  const wild = words.findIndex((word) => word === "*" || word === "#");
  if (wild === -1) return { exact: [filter], prefix: undefined };
  if (wild === 0) return undefined;
  const before = words.slice(0, wild).join(".");
  // `#` may stand for no word at all.
  return { exact: words[wild] === "#" ? [before] : [], prefix: `${before}.` };
}

/**
 * The SNS filter policy that lets through everything which a filter may match: exactly that where it has no wildcard, and
 * otherwise what begins like it; the rest is looked at while reading. Undefined if everything may match.
 */
export function filterPolicy(filter: string | undefined): string | undefined {
  const visible = visibleOf(filter);
  if (visible === undefined) return undefined;
  const { exact, prefix } = visible;
  return JSON.stringify({ [ROUTING_KEY]: [...exact, ...(prefix === undefined ? [] : [{ prefix }])] });
}

/** Whether SNS sees less than all of a filter, so that the rest is looked at while reading. */
export function isReadOn(filter: string | undefined): boolean {
  const words = filter?.split(".") ?? ["#"];
  const wild = words.findIndex((word) => word === "*" || word === "#");
  return wild !== -1 && !(words[wild] === "#" && wild === words.length - 1);
}

/**
 * Whether a message was let through only because SNS cannot see all of the filter. What the filter's own policy would
 * have kept away came in another way, by another filter that this subscription had or is getting, or by somebody who put
 * it on the queue: that is not for this consumer to throw away.
 */
export function isSurplus(filter: string, routingKey: string | undefined): boolean {
  if (routingMatches(filter, routingKey)) return false;
  const visible = visibleOf(filter);
  if (visible === undefined) return true;
  if (routingKey === undefined) return false;
  const { exact, prefix } = visible;
  return exact.includes(routingKey) || (prefix !== undefined && routingKey.startsWith(prefix));
}
