import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { guard } from "./guard.ts";
import { isRunning, type NativeProcess, signalProcess, startProcess } from "./native-process.ts";

async function longProcess(): Promise<NativeProcess> {
  const folder = await mkdtemp(join(tmpdir(), "anybroker-guard-"));
  return {
    folder,
    name: "long",
    command: process.execPath,
    args: ["-e", "setInterval(() => {}, 1e6)"],
    environment: {},
  };
}

test("release ends the processes, frozen ones too, and removes the folder", async () => {
  const long = await longProcess();
  const watch = guard({ kind: "processes", folder: long.folder });
  startProcess(long);
  expect(isRunning(long)).toBe(true);
  signalProcess(long, "SIGSTOP");
  await watch.release();
  await watch.release();
  expect(isRunning(long)).toBe(false);
  expect(existsSync(long.folder)).toBe(false);
});

test.for(["SIGKILL", "SIGINT"] as const)("what a run started is gone after %s to the run", async (signal) => {
  const long = await longProcess();
  const script = `
    const { guard } = await import(${JSON.stringify(new URL("guard.ts", import.meta.url).href)});
    const { startProcess } = await import(${JSON.stringify(new URL("native-process.ts", import.meta.url).href)});
    guard({ kind: "processes", folder: ${JSON.stringify(long.folder)} });
    startProcess(${JSON.stringify(long)});
    setInterval(() => {}, 1e6);
    console.log("started");`;
  const run = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(run.stdout, "data");
  expect(isRunning(long)).toBe(true);
  // To the whole group, as a terminal does on Ctrl-C.
  process.kill(-Number(run.pid), signal);
  await expect.poll(() => isRunning(long) || existsSync(long.folder), { timeout: 20_000 }).toBe(false);
});
