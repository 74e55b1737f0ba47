import { routingMatches } from "../../core/destination.ts";
import { ROUTING_KEY } from "./message-codec.ts";

/** The part of a filter that SNS can apply: exact keys or a prefix. Undefined if every key may match. */
interface SnsFilter {
  readonly exact: readonly string[];
  readonly prefix: string | undefined;
}

/** SNS has no "any one word", so it can apply a filter only up to the first wildcard. */
function snsFilterOf(filter: string | undefined): SnsFilter | undefined {
  if (filter === undefined || filter === "#") return undefined;
  const words = filter.split(".");
  const wild = words.findIndex((word) => word === "*" || word === "#");
  if (wild === -1) return { exact: [filter], prefix: undefined };
  if (wild === 0) return undefined;
  const before = words.slice(0, wild).join(".");
  // `#` also matches no word.
  return { exact: words[wild] === "#" ? [before] : [], prefix: `${before}.` };
}

/**
 * The SNS filter policy that passes everything a filter may match: exact keys, or a prefix up to the first wildcard.
 * The consumer applies the rest. Undefined if everything may match.
 */
export function filterPolicy(filter: string | undefined): string | undefined {
  const snsFilter = snsFilterOf(filter);
  if (snsFilter === undefined) return undefined;
  const { exact, prefix } = snsFilter;
  return JSON.stringify({ [ROUTING_KEY]: [...exact, ...(prefix === undefined ? [] : [{ prefix }])] });
}

/** Whether SNS applies only part of a filter, so that the consumer applies the rest. */
export function isPartial(filter: string | undefined): boolean {
  const words = filter?.split(".") ?? ["#"];
  const wild = words.findIndex((word) => word === "*" || word === "#");
  return wild !== -1 && !(words[wild] === "#" && wild === words.length - 1);
}

/**
 * Whether an event passed SNS only because SNS cannot apply the whole filter; the consumer drops it. Other events that
 * do not match came by an older or newer filter of this subscription, or directly to the queue: they must not be
 * dropped.
 */
export function isSurplus(filter: string, routingKey: string | undefined): boolean {
  if (routingMatches(filter, routingKey)) return false;
  const snsFilter = snsFilterOf(filter);
  if (snsFilter === undefined) return true;
  if (routingKey === undefined) return false;
  const { exact, prefix } = snsFilter;
  return exact.includes(routingKey) || (prefix !== undefined && routingKey.startsWith(prefix));
}
