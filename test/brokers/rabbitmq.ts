import { executeIn } from "./container.ts";
import type { BrokerControls, BrokerOrigin, RunningBroker } from "./contract.ts";
import type { Guard } from "./guard.ts";
import { awaitRabbitMQ, RABBITMQ_READY_MS } from "./rabbitmq/await-rabbitmq.ts";
import { dockerControls, startInDocker } from "./rabbitmq/docker.ts";
import { nativeControls, nativeRabbitmqctl, startNative } from "./rabbitmq/native.ts";
import type { RabbitMQRecord, StartedRabbitMQ } from "./rabbitmq/record.ts";
import { makeVirtualHost, namePrefixOnly, type VirtualHost } from "./rabbitmq/virtual-host.ts";
import { selectBroker } from "./selection.ts";

export type { RabbitMQRecord } from "./rabbitmq/record.ts";
export type { VirtualHost } from "./rabbitmq/virtual-host.ts";

const SYNC_EVERY_TABLE = "[ok = dets:sync(Table) || Table <- dets:all()].";

/** A RabbitMQ server to test against. */
export interface RunningRabbitMQ extends RunningBroker {
  /** Plain data from which any other process of the run makes the same object: see {@link rabbitMQFrom}. */
  readonly record: RabbitMQRecord;
  /** A fresh, empty virtual host, so that suites do not disturb each other; with only a URL, a prefix for names. */
  newVirtualHost(): Promise<VirtualHost>;
  /**
   * Writes the server's register of quorum queues to disk. Call it between declaring queues and `controls.kill`: the
   * server itself writes that register up to a second later, and a queue which it has forgotten comes back empty, with
   * messages lost that it had confirmed (seen with 4.3). Undefined for a broker given by URL.
   */
  readonly syncDeclarations: (() => Promise<void>) | undefined;
  /** Runs `rabbitmqctl` on the server and returns what it printed. Undefined for a broker given by URL. */
  readonly rabbitmqctl: ((...args: string[]) => Promise<string>) | undefined;
}

/**
 * Gets a RabbitMQ: the one at `RABBITMQ_URL`, or as `BROKERS` says a container, or a native process. Throws
 * `BrokerUnavailable` with all reasons if there is none. What it starts ends with `stop`, or else with this process.
 */
export async function startRabbitMQ(environment: NodeJS.ProcessEnv = process.env): Promise<RunningRabbitMQ> {
  const { record, guard } = await selectBroker<StartedRabbitMQ>(
    {
      name: "rabbitmq",
      urlVariable: "RABBITMQ_URL",
      url: async (url) => ({ record: { how: "url", url, version: await awaitRabbitMQ(url, 10_000) } }),
      docker: startInDocker,
      native: startNative,
    },
    environment,
  );
  return rabbitMQFrom(record, guard);
}

/** Makes the object from its record, in any process of the run. Only the one that started the broker can `stop` it. */
export function rabbitMQFrom(record: RabbitMQRecord, guard?: Guard): RunningRabbitMQ {
  const rabbitmqctl = rabbitmqctlOf(record);
  return {
    name: "rabbitmq",
    url: record.url,
    version: record.version,
    how: record.how satisfies BrokerOrigin,
    record,
    controls: controlsOf(record),
    newVirtualHost: () => (record.how === "url" ? namePrefixOnly(record) : makeVirtualHost(record)),
    rabbitmqctl,
    syncDeclarations: rabbitmqctl && (async () => void (await rabbitmqctl("eval", SYNC_EVERY_TABLE))),
    stop: async () => guard?.release(),
  };
}

function controlsOf(record: RabbitMQRecord): BrokerControls | undefined {
  if (record.how === "docker") return dockerControls(record, () => awaitRabbitMQ(record.url, RABBITMQ_READY_MS));
  if (record.how === "native") return nativeControls(record);
  return undefined;
}

function rabbitmqctlOf(record: RabbitMQRecord): RunningRabbitMQ["rabbitmqctl"] {
  if (record.how === "docker") return (...args) => executeIn(record.containerId, ["rabbitmqctl", ...args]);
  if (record.how === "native") return (...args) => nativeRabbitmqctl(record, args);
  return undefined;
}
