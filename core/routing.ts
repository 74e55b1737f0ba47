/** The most bytes of a routing key that AMQP carries. */
const LONGEST_ROUTING_KEY_BYTES = 255;

/**
 * Whether a routing key matches a filter: `*` is one word, `#` is any number of words, also none. A key over 255 bytes,
 * which AMQP cannot carry, matches only filters that match everything. It takes words × parts steps at most.
 */
export function routingMatches(filter: string, routingKey: string | undefined): boolean {
  const pattern = filter.split(".");
  if (routingKey !== undefined && isTooLong(routingKey)) return pattern.every((part) => part === "#");
  return matches(pattern, routingKey === undefined ? [] : routingKey.split("."));
}

function isTooLong(routingKey: string): boolean {
  return routingKey.length > LONGEST_ROUTING_KEY_BYTES || Buffer.byteLength(routingKey) > LONGEST_ROUTING_KEY_BYTES;
}

/** Backtracks only to the last `#`: once a later `#` is reached, earlier ones never have to change. */
function matches(pattern: readonly string[], words: readonly string[]): boolean {
  let at = 0;
  let word = 0;
  let behindWildcard: number | undefined;
  let taken = 0;
  while (word < words.length) {
    const part = pattern[at];
    if (part === "#") {
      behindWildcard = ++at;
      taken = word;
    } else if (part !== undefined && (part === "*" || part === words[word])) {
      at++;
      word++;
    } else if (behindWildcard !== undefined) {
      at = behindWildcard;
      word = ++taken;
    } else return false;
  }
  return pattern.slice(at).every((part) => part === "#");
}
