import type { TopicPartition } from "../port.ts";

/** A text that stands for a partition in maps and sets. No topic's name has a slash. */
export function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}
