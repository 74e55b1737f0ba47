import { randomUUID } from "node:crypto";
import { GenericContainer, Wait } from "testcontainers";
import { containerEngine, RUN_LABEL, volumeName } from "./container-engine.ts";
import type { BrokerControls } from "./contract.ts";
import { freePort } from "./free-port.ts";
import { type Guard, guard } from "./guard.ts";
import { until } from "./until.ts";

const FREEZE_MS = 120_000;

export interface ContainerOptions {
  /** The public image with its exact tag. */
  readonly image: string;
  /** Ports of the container. Each gets a fixed port of the host, so that a restart keeps it. */
  readonly ports: readonly number[];
  /** Files that it finds at these paths, whatever the image has there. */
  readonly files?: readonly { readonly path: string; readonly content: string | Buffer }[];
  /** The command with its arguments, in place of the image's own. */
  readonly command?: readonly string[];
  /** A folder of it that is a volume, which ends with the container: some images keep data only there. */
  readonly volume?: string;
  /** The line that the broker logs when it is ready, where there is one to wait for. */
  readonly readyLine?: RegExp;
  /** Its variables, given the host and the host's ports, in the order of `ports`, at which the container will be reached. */
  readonly environment?: (host: string, hostPorts: readonly number[]) => Readonly<Record<string, string>>;
}

export interface StartedContainer {
  readonly id: string;
  readonly host: string;
  /** The host's port of each of `ports`, in their order. */
  readonly hostPorts: readonly number[];
  readonly guard: Guard;
}

/** Starts a container that ends with this process, whatever ends it. */
export async function startContainer(options: ContainerOptions): Promise<StartedContainer> {
  const { host } = (await containerEngine()).info.containerRuntime;
  const runId = randomUUID();
  const watch = guard({ kind: "containers", runId });
  try {
    for (let attempt = 1; ; attempt++) {
      const hostPorts = await Promise.all(options.ports.map(freePort));
      try {
        const container = await new GenericContainer(options.image)
          .withExposedPorts(...options.ports.map((port, index) => ({ container: port, host: hostPorts[index] ?? 0 })))
          .withEnvironment({ ...options.environment?.(host, hostPorts) })
          .withCopyContentToContainer((options.files ?? []).map(({ path, content }) => ({ target: path, content })))
          .withBindMounts(options.volume ? [{ source: volumeName(runId), target: options.volume }] : [])
          .withCommand([...(options.command ?? [])])
          .withLabels({ [RUN_LABEL]: runId })
          .withWaitStrategy(options.readyLine ? Wait.forLogMessage(options.readyLine) : Wait.forAll([]))
          .withStartupTimeout(120_000)
          // The guard does this, with no image of its own to fetch and no privileges.
          .withAutoCleanup(false)
          .start();
        return { id: container.getId(), host, hostPorts, guard: watch };
      } catch (error) {
        // Someone else may have taken the port in the meantime; anything else would fail again.
        if (attempt === 3 || !/port is already allocated|address already in use/i.test(String(error))) throw error;
      }
    }
  } catch (error) {
    await watch.release();
    throw error;
  }
}

/**
 * The controls of a container, for any process that can reach the engine. `ready` resolves when it takes connections. A
 * restart gives it so many seconds to stop in good order, and then ends it.
 */
export function containerControls(id: string, ready: () => Promise<unknown>, stopSeconds = 30): BrokerControls {
  const container = async () => (await containerEngine()).container.getById(id);
  return {
    restart: async () => {
      await (await container()).restart({ t: stopSeconds });
      await ready();
    },
    kill: async () => {
      const target = await container();
      await target.kill({ signal: "SIGKILL" });
      await target.wait({ condition: "not-running" });
    },
    start: async () => {
      const target = await container();
      if (!(await target.inspect()).State.Running) await target.start();
      await ready();
    },
    pause: async () => {
      const target = await container();
      // The system freezes a busy container process by process, and gives up when that takes it too long.
      await until(`container ${id} to be frozen`, FREEZE_MS, () => target.pause());
    },
    resume: async () => {
      await (await container()).unpause();
    },
  };
}

/** The last lines that the container printed, for the message of an error. */
export async function lastLogLines(id: string, count = 15): Promise<string> {
  const { container } = await containerEngine();
  const log = await container.getById(id).logs({ stdout: true, stderr: true, tail: count });
  return log.toString("utf8");
}

/** Runs a command in the container and returns what it printed; rejects if it fails. */
export async function executeIn(id: string, command: readonly string[]): Promise<string> {
  const engine = await containerEngine();
  const result = await engine.container.exec(engine.container.getById(id), [...command]);
  if (result.exitCode !== 0) throw new Error(`${command[0]} ended with ${result.exitCode}: ${result.output}`);
  return result.output;
}
