import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import type { BrokerControls } from "../contract.ts";
import { freePort } from "../free-port.ts";
import { guard } from "../guard.ts";
import { endProcess, freezeProcess, isRunning, lastLines, signalProcess, startProcess } from "../native-process.ts";
import { awaitRabbitMQ, RABBITMQ_READY_MS } from "./await-rabbitmq.ts";
import { findRabbitMQ, type RabbitMQInstallation } from "./installation.ts";
import type { RabbitMQNative, StartedRabbitMQ } from "./record.ts";

const execute = promisify(execFile);

/** Starts RabbitMQ as a process of this machine, on loopback only, with all it writes in a temporary folder. */
export async function startNative(): Promise<StartedRabbitMQ> {
  const installation = await findRabbitMQ();
  const folder = await mkdtemp(join(tmpdir(), "anybroker-rabbitmq-"));
  const watch = guard({ kind: "processes", folder });
  try {
    const record = await describeServer(installation, folder);
    startProcess(record.epmd);
    startProcess(record.server);
    const version = await awaitServer(record);
    return { record: { ...record, version }, guard: watch };
  } catch (error) {
    await watch.release();
    throw error;
  }
}

export function nativeControls(record: RabbitMQNative): BrokerControls {
  const start = async () => {
    if (isRunning(record.server)) return;
    if (!isRunning(record.epmd)) startProcess(record.epmd);
    startProcess(record.server);
    await awaitServer(record);
  };
  return {
    restart: async () => {
      await endProcess(record.server, "SIGTERM", 30_000);
      await start();
    },
    kill: () => endProcess(record.server, "SIGKILL", 10_000),
    start,
    pause: () => freezeProcess(record.server),
    resume: async () => {
      signalProcess(record.server, "SIGCONT");
    },
  };
}

/** Runs `rabbitmqctl` against the server and returns what it printed. */
export async function nativeRabbitmqctl(record: RabbitMQNative, args: readonly string[]): Promise<string> {
  const { stdout } = await execute(record.rabbitmqctl, [...args], {
    env: record.server.environment,
    timeout: 60_000,
  });
  return stdout;
}

async function describeServer(installation: RabbitMQInstallation, folder: string): Promise<RabbitMQNative> {
  const amqp = await freePort();
  const management = await freePort();
  const environment = await prepare(installation, folder, amqp, management);
  return {
    how: "native",
    url: `amqp://guest:guest@127.0.0.1:${amqp}`,
    managementUrl: `http://guest:guest@127.0.0.1:${management}`,
    version: "",
    epmd: { folder, name: "epmd", command: installation.epmd, args: [], environment },
    server: { folder, name: "server", command: installation.server, args: [], environment },
    rabbitmqctl: installation.rabbitmqctl,
  };
}

/** Writes the configuration, and returns the environment that makes the server use it and nothing of the system's. */
async function prepare(
  installation: RabbitMQInstallation,
  folder: string,
  amqp: number,
  management: number,
): Promise<Record<string, string>> {
  const file = (name: string) => join(folder, name);
  await writeFile(
    file("rabbitmq.conf"),
    [
      `listeners.tcp.default = 127.0.0.1:${amqp}`,
      "management.tcp.ip = 127.0.0.1",
      `management.tcp.port = ${management}`,
      "log.console = true",
      "log.console.level = info",
      "log.file = false",
      "",
    ].join("\n"),
  );
  await writeFile(file("enabled_plugins"), "[rabbitmq_management].\n");
  // The scripts source this file instead of the system's own, which could change any of the settings below.
  await writeFile(file("environment.conf"), "");
  await writeFile(file(".erlang.cookie"), randomBytes(16).toString("hex"), { mode: 0o400 });
  return {
    ...installation.environment,
    PATH: [...installation.path, process.env.PATH ?? ""].join(delimiter),
    LANG: "C.UTF-8",
    HOME: folder,
    ERL_EPMD_PORT: String(await freePort()),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    RABBITMQ_NODENAME: "rabbit@localhost",
    RABBITMQ_DIST_PORT: String(await freePort()),
    RABBITMQ_CONF_ENV_FILE: file("environment.conf"),
    RABBITMQ_CONFIG_FILE: file("rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: file("advanced.config"),
    RABBITMQ_GENERATED_CONFIG_DIR: file("generated"),
    RABBITMQ_ENABLED_PLUGINS_FILE: file("enabled_plugins"),
    RABBITMQ_MNESIA_BASE: file("data"),
    RABBITMQ_LOG_BASE: file("log"),
    RABBITMQ_FEATURE_FLAGS_FILE: file("feature_flags"),
    // The distribution listens on loopback; schedulers sleep instead of spinning, since tests share the processors.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none",
    RABBITMQ_CTL_ERL_ARGS: "+S 1 +sbwt none",
    // Makes the script become the server instead of waiting for it as a parent, so that signals reach the server.
    RUNNING_UNDER_SYSTEMD: "true",
  };
}

/** Waits until the server takes connections, and no longer than it or its name server lives. */
async function awaitServer(record: RabbitMQNative): Promise<string> {
  const ended = new AbortController();
  const watch = setInterval(() => {
    const dead = [record.epmd, record.server].find((process_) => !isRunning(process_));
    if (dead) ended.abort(new Error(`${dead.name} ended while it was starting:\n${lastLines(dead)}`));
  }, 100);
  try {
    return await awaitRabbitMQ(record.url, RABBITMQ_READY_MS, ended.signal);
  } finally {
    clearInterval(watch);
  }
}
