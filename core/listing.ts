import { addressName, type TopicAddress, type WorkAddress } from "./address.ts";
import { checkName } from "./names.ts";

const DEAD_LETTERS_ENDING = addressName({ kind: "dead-letters", of: { kind: "queue", name: "" } });
const BETWEEN = addressName({ kind: "subscription", topic: "", name: "" });

/** The queue or subscription that a name stands for, as people read it; undefined for a name that is neither's. */
export function workAddressOf(name: string): WorkAddress | undefined {
  const [first = "", second, ...more] = name.split(BETWEEN);
  try {
    checkName(second === undefined ? "queue" : "topic", first);
    if (second === undefined) return { kind: "queue", name: first };
    checkName("subscription", second);
    return more.length === 0 ? { kind: "subscription", topic: first, name: second } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What of anybroker's stands among the names of a broker: each queue and subscription whose dead letters stand beside it, and
 * the topics of those subscriptions. `mainName` is what one of them is called there.
 */
export function standingAmong(
  names: Iterable<string>,
  mainName: (of: WorkAddress) => string = addressName,
): readonly (WorkAddress | TopicAddress)[] {
  const all = new Set(names);
  const topics = new Set<string>();
  const standing: (WorkAddress | TopicAddress)[] = [];
  for (const name of all) {
    if (!name.endsWith(DEAD_LETTERS_ENDING)) continue;
    const of = workAddressOf(name.slice(0, -DEAD_LETTERS_ENDING.length));
    if (of === undefined || !all.has(mainName(of))) continue;
    standing.push(of);
    if (of.kind === "subscription") topics.add(of.topic);
  }
  return [...standing, ...[...topics].map((name): TopicAddress => ({ kind: "topic", name }))];
}
