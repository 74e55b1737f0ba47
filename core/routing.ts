/** Whether a routing key matches a filter: `*` stands for one word, `#` for any number, none included. */
export function routingMatches(filter: string, routingKey: string | undefined): boolean {
  const words = routingKey === undefined ? [] : routingKey.split(".");
  return matches(filter.split("."), 0, words, 0);
}

function matches(pattern: readonly string[], at: number, words: readonly string[], from: number): boolean {
  if (at === pattern.length) return from === words.length;
  const part = pattern[at];
  if (part === "#") {
    for (let rest = from; rest <= words.length; rest++) if (matches(pattern, at + 1, words, rest)) return true;
    return false;
  }
  if (from === words.length || (part !== "*" && part !== words[from])) return false;
  return matches(pattern, at + 1, words, from + 1);
}
