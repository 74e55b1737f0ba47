import { type Address, addressName, describeAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";

export const FIFO = ".fifo";
const LONGEST_NAME = { queue: 80, topic: 256 };

/** Whether what stands for an address may be a standard queue or topic (`false`), a FIFO one (`true`), or either. */
export function kindsOf({ kind }: Address): readonly boolean[] {
  return kind === "quarantine" ? [false] : [false, true];
}

/**
 * The name of the SQS queue or SNS topic that stands for an address, without `.fifo`: SQS knows letters, digits, `-` and
 * `_`, so `.` is written `_-` and `_` is written `__`. A prefix is followed by a `_` before a letter or digit, which a name
 * without a prefix never has. So no two names become one, whatever their prefixes. Throws `invalid` for a name that is too
 * long then.
 */
export function awsName(address: Address, prefix: string): string {
  const name = underPrefix(prefix, addressName(address).replaceAll("_", "__").replaceAll(".", "_-"));
  const most = LONGEST_NAME[address.kind === "topic" ? "topic" : "queue"];
  const ending = kindsOf(address).includes(true) ? FIFO : "";
  if (name.length + ending.length > most) {
    const without = ending === "" ? "" : `, without "${ending}"`;
    throw new MessagingError(
      "invalid",
      `${describeAddress(address)} would be "${name}" on SQS, and names have ${most - ending.length} characters at most there${without}; choose a shorter one ("." and "_" count twice)`,
    );
  }
  return name;
}

/** A name of AWS under a prefix, if there is one. */
export function underPrefix(prefix: string, name: string): string {
  return prefix === "" ? name : `${prefix}_${name}`;
}

/** The name of an address, as people read it, from that of its SQS queue; undefined for a queue under another prefix, or none of ours. */
export function readName(queue: string, prefix: string): string | undefined {
  const start = prefix === "" ? "" : underPrefix(prefix, "");
  if (!queue.startsWith(start)) return undefined;
  const plain = queue.slice(start.length, queue.endsWith(FIFO) ? -FIFO.length : undefined);
  const name = plain.replace(/_(.?)/g, (_, next: string) => (next === "-" ? "." : next === "_" ? "_" : "\0"));
  return name.includes("\0") ? undefined : name;
}

/** The physical name with its namespace: a queue and a topic of one name do not collide. */
export function physicalName(address: Address, prefix: string): string {
  return `${address.kind === "topic" ? "topic" : "queue"} ${awsName(address, prefix)}`;
}
