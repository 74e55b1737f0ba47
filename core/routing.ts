/** The most bytes of a routing key that AMQP carries. */
const LONGEST_ROUTING_KEY_BYTES = 255;

/**
 * Whether a routing key matches a filter: `*` stands for one word, `#` for any number, none included. A key of over 255 bytes,
 * which no exchange of AMQP could carry, matches only what matches everything. In at most words times pattern steps.
 */
export function routingMatches(filter: string, routingKey: string | undefined): boolean {
  const pattern = filter.split(".");
  if (routingKey !== undefined && isTooLong(routingKey)) return pattern.every((part) => part === "#");
  return matches(pattern, routingKey === undefined ? [] : routingKey.split("."));
}

function isTooLong(routingKey: string): boolean {
  return routingKey.length > LONGEST_ROUTING_KEY_BYTES || Buffer.byteLength(routingKey) > LONGEST_ROUTING_KEY_BYTES;
}

/** What one `#` takes never needs to be looked at again once a later `#` is reached: only the last one is taken back. */
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
