import type { ErrorName, KafkaConnection, ListedOffset, TopicPartition } from "../port.ts";
import type { Cursor } from "./cursor.ts";
import { partitionKey } from "./owned-partition.ts";

/** Where the log of a partition begins and ends. `latest` is only looked for where a position may lie beyond it. */
export interface Place {
  readonly error: ErrorName;
  readonly earliest: number;
  readonly latest: number;
}

/** Finds out where the logs of partitions begin and end. Rejects if the node does not answer. */
export async function place(
  connection: KafkaConnection,
  node: number,
  cursors: readonly Cursor[],
): Promise<ReadonlyMap<Cursor, Place>> {
  const earliest = await list(connection, node, cursors, "earliest");
  const ends = cursors.filter((cursor) => {
    const start = earliest.get(cursor);
    if (cursor.placing === "uncommitted" || start === undefined) return false;
    return start.error === undefined && cursor.partition.ledger.position > start.offset;
  });
  const latest = ends.length === 0 ? new Map() : await list(connection, node, ends, "latest");
  return new Map(
    cursors.map((cursor) => {
      const start: ListedOffset | undefined = earliest.get(cursor);
      const end: ListedOffset | undefined = latest.get(cursor);
      const error = start === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : (start.error ?? end?.error);
      const found = { error, earliest: start?.offset ?? 0, latest: end?.offset ?? Number.POSITIVE_INFINITY };
      return [cursor, found];
    }),
  );
}

async function list(
  connection: KafkaConnection,
  node: number,
  cursors: readonly Cursor[],
  at: "earliest" | "latest",
): Promise<ReadonlyMap<Cursor, ListedOffset>> {
  const wanted = cursors.map(({ partition: { topic, partition } }) => ({ topic, partition, at }));
  const listed = await connection.listOffsets(node, wanted);
  const byKey = new Map(listed.map((offset) => [partitionKey(offset as TopicPartition), offset]));
  return new Map(
    cursors.flatMap((cursor): [Cursor, ListedOffset][] => {
      const offset = byKey.get(partitionKey(cursor.partition));
      return offset === undefined ? [] : [[cursor, offset]];
    }),
  );
}
