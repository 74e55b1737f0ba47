import { randomBytes } from "node:crypto";
import { until } from "../until.ts";
import { withClient } from "./await-valkey.ts";

/** Keys that one suite has for itself, on a server that all share. */
export interface Namespace {
  /** What its keys must begin with. */
  readonly keyPrefix: string;
  /** Removes every such key. */
  remove(): Promise<void>;
}

/** Keys that no other suite has. */
export function newNamespace(url: string): Namespace {
  const keyPrefix = `test-${randomBytes(8).toString("hex")}:`;
  return {
    keyPrefix,
    remove: () => until("the end of a suite's keys", 60_000, () => removeAll(url, keyPrefix)),
  };
}

async function removeAll(url: string, keyPrefix: string): Promise<void> {
  await withClient(url, async (client) => {
    for await (const keys of client.scanIterator({ MATCH: `${keyPrefix}*`, COUNT: 1_000 })) {
      if (keys.length > 0) await client.unlink(keys);
    }
  });
}
