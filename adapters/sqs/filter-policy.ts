import { ROUTING_KEY } from "./message.ts";

/**
 * The SNS filter policy that lets through everything which a filter may match: exactly that where it has no wildcard, and
 * otherwise what begins like it. SNS cannot say "any one word", so the rest is looked at while reading. Undefined if
 * everything may match.
 */
export function filterPolicy(filter: string | undefined): string | undefined {
  if (filter === undefined || filter === "#") return undefined;
  const words = filter.split(".");
  const wild = words.findIndex((word) => word === "*" || word === "#");
  if (wild === -1) return JSON.stringify({ [ROUTING_KEY]: [filter] });
  if (wild === 0) return undefined;
  const before = words.slice(0, wild).join(".");
  // `#` may stand for no word at all.
  const exact = words[wild] === "#" ? [before] : [];
  return JSON.stringify({ [ROUTING_KEY]: [...exact, { prefix: `${before}.` }] });
}
