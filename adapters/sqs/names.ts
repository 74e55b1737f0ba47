import { type Address, addressName, describeAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";

export const FIFO = ".fifo";
const MAX_NAME_LENGTH = { queue: 80, topic: 256 };

/** The possible kinds of an address on AWS: standard (`false`) and FIFO (`true`). */
export function kindsOf({ kind }: Address): readonly boolean[] {
  return kind === "quarantine" ? [false] : [false, true];
}

/**
 * The name of an address's SQS queue or SNS topic, without `.fifo`. AWS allows letters, digits, `-` and `_`, so `.`
 * becomes `_-` and `_` becomes `__`. A prefix is followed by `_` and a letter or digit, which never occurs in a name
 * without prefix. So names never collide, with any prefixes. Throws `invalid` for a name that becomes too long.
 */
export function awsName(address: Address, prefix: string): string {
  const name = underPrefix(prefix, addressName(address).replaceAll("_", "__").replaceAll(".", "_-"));
  const max = MAX_NAME_LENGTH[address.kind === "topic" ? "topic" : "queue"];
  const ending = kindsOf(address).includes(true) ? FIFO : "";
  if (name.length + ending.length > max) {
    const without = ending === "" ? "" : `, without "${ending}"`;
    throw new MessagingError(
      "invalid",
      `${describeAddress(address)} would be "${name}" on SQS, where names have at most ${max - ending.length} characters${without}; choose a shorter one ("." and "_" count twice)`,
    );
  }
  return name;
}

/** A name with the prefix, if there is one. */
export function underPrefix(prefix: string, name: string): string {
  return prefix === "" ? name : `${prefix}_${name}`;
}

/** Converts a queue's name back to the name of its address; undefined for another prefix and for foreign names. */
export function addressNameOf(queue: string, prefix: string): string | undefined {
  const start = prefix === "" ? "" : underPrefix(prefix, "");
  if (!queue.startsWith(start)) return undefined;
  const plain = queue.slice(start.length, queue.endsWith(FIFO) ? -FIFO.length : undefined);
  const name = plain.replace(/_(.?)/g, (_, next: string) => (next === "-" ? "." : next === "_" ? "_" : "\0"));
  return name.includes("\0") ? undefined : name;
}

/** The physical name with its namespace: a queue and a topic may have the same name. */
export function physicalName(address: Address, prefix: string): string {
  return `${address.kind === "topic" ? "topic" : "queue"} ${awsName(address, prefix)}`;
}
