import type { BrokerControls } from "./contract.ts";
import {
  endProcess,
  freezeProcess,
  isRunning,
  lastLines,
  type NativeProcess,
  signalProcess,
  startProcess,
} from "./native-process.ts";

/** Resolves when a broker takes connections; rejects when it does not for too long, or the signal is aborted. */
export type Ready = (signal?: AbortSignal) => Promise<unknown>;

/** The controls of a broker that is one process. The stop signal stops it in good order. */
export function processControls(
  broker: string,
  server: NativeProcess,
  ready: Ready,
  stopSignal: NodeJS.Signals = "SIGTERM",
): BrokerControls {
  const start = async () => {
    if (isRunning(server)) return;
    startProcess(server);
    await whileItLives(broker, server, ready);
  };
  return {
    restart: async () => {
      await endProcess(server, stopSignal, 30_000);
      await start();
    },
    kill: () => endProcess(server, "SIGKILL", 10_000),
    start,
    pause: () => freezeProcess(server),
    resume: async () => {
      signalProcess(server, "SIGCONT");
    },
  };
}

/** Waits for a server that was just started, and no longer than it lives: its end aborts the signal with its last lines. */
export async function whileItLives<T>(
  broker: string,
  server: NativeProcess,
  ready: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ended = new AbortController();
  const watch = setInterval(() => {
    if (!isRunning(server)) ended.abort(new Error(`${broker} ended while it was starting:\n${lastLines(server)}`));
  }, 100);
  try {
    return await ready(ended.signal);
  } finally {
    clearInterval(watch);
  }
}
