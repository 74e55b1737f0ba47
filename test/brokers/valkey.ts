import type { BrokerControls, BrokerOrigin, RunningBroker } from "./contract.ts";
import type { Guard } from "./guard.ts";
import { selectBroker } from "./selection.ts";
import { awaitValkey, VALKEY_READY_MS } from "./valkey/await-valkey.ts";
import { dockerControls, startInDocker } from "./valkey/docker.ts";
import { type Namespace, newNamespace } from "./valkey/namespace.ts";
import { nativeControls, startNative } from "./valkey/native.ts";
import type { StartedValkey, ValkeyRecord } from "./valkey/record.ts";

export type { Namespace } from "./valkey/namespace.ts";
export type { ValkeyRecord } from "./valkey/record.ts";

/** A Valkey, or a Redis in its place, to test against. Where this run started it, it keeps its data over a kill. */
export interface RunningValkey extends RunningBroker {
  /** Plain data from which any other process of the run makes the same object: see {@link valkeyFrom}. */
  readonly record: ValkeyRecord;
  /** Fresh keys, so that suites do not disturb each other. */
  newNamespace(): Namespace;
}

/**
 * Gets a Valkey: the server at `VALKEY_URL`, or as `BROKERS` says a container, or a native process. Throws
 * `BrokerUnavailable` with all reasons if there is none. What it starts ends with `stop`, or else with this process.
 */
export async function startValkey(environment: NodeJS.ProcessEnv = process.env): Promise<RunningValkey> {
  const { record, guard } = await selectBroker<StartedValkey>(
    {
      name: "valkey",
      urlVariable: "VALKEY_URL",
      url: async (url) => ({ record: { how: "url", url, version: await awaitValkey(url, 10_000) } }),
      docker: startInDocker,
      native: startNative,
    },
    environment,
  );
  return valkeyFrom(record, guard);
}

/** Makes the object from its record, in any process of the run. Only the one that started the broker can `stop` it. */
export function valkeyFrom(record: ValkeyRecord, guard?: Guard): RunningValkey {
  return {
    name: "valkey",
    url: record.url,
    version: record.version,
    how: record.how satisfies BrokerOrigin,
    record,
    controls: controlsOf(record),
    newNamespace: () => newNamespace(record.url),
    stop: async () => guard?.release(),
  };
}

function controlsOf(record: ValkeyRecord): BrokerControls | undefined {
  const ready = (signal?: AbortSignal) => awaitValkey(record.url, VALKEY_READY_MS, signal);
  if (record.how === "docker") return dockerControls(record, ready);
  if (record.how === "native") return nativeControls(record, ready);
  return undefined;
}
