import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { isAlive, type NativeProcess, processId } from "../native-process.ts";
import { until } from "../until.ts";

/** Freezes the server and the process of every connection, each of which is in a process group of its own. */
export function freezeFamily(server: NativeProcess): readonly number[] {
  const parent = processId(server);
  if (parent === undefined) return [];
  // The parent first: frozen it makes no more children.
  process.kill(parent, "SIGSTOP");
  const children = childrenOf(parent);
  for (const child of children) signal(child, "SIGSTOP");
  return [parent, ...children];
}

/** Thaws them all. */
export function thawFamily(server: NativeProcess): void {
  const parent = processId(server);
  if (parent === undefined) return;
  for (const child of childrenOf(parent)) signal(child, "SIGCONT");
  signal(parent, "SIGCONT");
}

/** Ends them all as a power cut would: none lives on to finish what it was at. Resolves when they are gone. */
export async function killFamily(server: NativeProcess): Promise<void> {
  const family = freezeFamily(server);
  for (const pid of family) signal(pid, "SIGKILL");
  await until("the end of Postgres", 60_000, () => {
    if (family.some(isAlive)) throw new Error("still running");
  });
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended by itself.
  }
}

function childrenOf(parent: number): readonly number[] {
  if (!existsSync("/proc/self/stat")) return childrenByCommand(parent);
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && parentOf(pid) === parent);
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return undefined;
  }
}

function childrenByCommand(parent: number): readonly number[] {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  return lines
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([pid = 0, ppid]) => (ppid === parent ? [pid] : []));
}
