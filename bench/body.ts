import { queue, topic } from "anybroker";

/** About 512 bytes as JSON. */
export interface Order {
  readonly id: string;
  readonly total: number;
  readonly note: string;
}

export const ORDER: Order = { id: "o-1", total: 12, note: "x".repeat(475) };

/** A queue of its own for each run, so that no figure starts with what another left. */
export function freshQueue(what: string) {
  return queue<Order>(freshName(what));
}

/** A topic of its own; its name serves for a group as well. */
export function freshTopic(what: string) {
  return topic<Order>(freshName(what));
}

function freshName(what: string): string {
  return `bench.${what}.${process.pid}.${Math.random().toString(36).slice(2)}`;
}
