import type { Address } from "./address.ts";

/** A count with its noun, as in `1 header` and `2 headers`. */
export function counted(count: number, noun: string, plural: string = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}

/** The verb that fits {@link describeAddress}: dead letters are plural. */
export function agreeing<Verb extends string>({ kind }: Address, singular: Verb, plural: Verb): Verb {
  return kind === "dead-letters" ? plural : singular;
}
