import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "./until.ts";

/** A process of a broker, as plain data, so that any process of the run can start, freeze and end it. */
export interface NativeProcess {
  /** Where its pid file `<name>.pid` and its log `<name>.log` are: the broker's temporary folder. */
  readonly folder: string;
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Who it runs as, where it must not be root; otherwise as this process does. */
  readonly user?: ProcessUser;
  /** The signal by which it ends at once and leaves nothing of the system behind; SIGKILL if not given. */
  readonly endSignal?: NodeJS.Signals;
}

/** The ids of a user of this system. */
export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
}

interface ProcessIdentity {
  readonly pid: number;
  /** When the system says that it started: a pid alone may mean another process by now. */
  readonly startedAt: string | undefined;
  readonly endSignal?: NodeJS.Signals | undefined;
}

/** Starts it in a process group of its own, so that neither Ctrl-C nor the end of this process reaches it. */
export function startProcess(process_: NativeProcess): void {
  const log = openSync(join(process_.folder, `${process_.name}.log`), "a");
  try {
    const child = spawn(process_.command, process_.args, {
      cwd: process_.folder,
      env: process_.environment,
      detached: true,
      ...process_.user,
      stdio: ["ignore", log, log],
    });
    child.once("error", () => undefined);
    if (child.pid === undefined) throw new Error(`${process_.command} cannot be started`);
    const identity: ProcessIdentity = {
      pid: child.pid,
      startedAt: startedAt(child.pid),
      endSignal: process_.endSignal,
    };
    writeFileSync(pidFile(process_.folder, process_.name), JSON.stringify(identity));
    child.unref();
  } finally {
    closeSync(log);
  }
}

/** Whether it runs (a frozen one does). */
export function isRunning(process_: NativeProcess): boolean {
  return livingPid(process_.folder, process_.name) !== undefined;
}

/** Signals the whole process group; false if it does not run. */
export function signalProcess(process_: NativeProcess, signal: NodeJS.Signals): boolean {
  return signalGroup(livingPid(process_.folder, process_.name), signal);
}

/** Freezes the whole process group. Resolves when no thread of the process runs any more, where the system tells. */
export async function freezeProcess(process_: NativeProcess): Promise<void> {
  const pid = livingPid(process_.folder, process_.name);
  if (!signalGroup(pid, "SIGSTOP")) return;
  await until(`${process_.name} to stand still`, 60_000, () => {
    const running = threadStates(pid).filter((state) => state !== "T");
    if (running.length > 0) throw new Error(`${running.length} threads go on`);
  });
}

/** Sends the signal and waits for the end; past the deadline (milliseconds) sends SIGKILL. */
export async function endProcess(process_: NativeProcess, signal: NodeJS.Signals, deadlineMs: number): Promise<void> {
  signalProcess(process_, signal);
  try {
    await gone(process_.folder, process_.name, deadlineMs);
  } catch {
    signalProcess(process_, "SIGKILL");
    await gone(process_.folder, process_.name, 60_000);
  }
}

/** Ends every process that has its pid file in the folder. */
export async function endProcesses(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  const names = readdirSync(folder).flatMap((file) => (file.endsWith(".pid") ? [file.slice(0, -".pid".length)] : []));
  for (const name of names) {
    const pid = livingPid(folder, name);
    signalGroup(pid, identityOf(folder, name)?.endSignal ?? "SIGKILL");
    // It may have been frozen.
    signalGroup(pid, "SIGCONT");
  }
  for (const name of names) {
    await gone(folder, name, 60_000).catch(() => signalGroup(livingPid(folder, name), "SIGKILL"));
    await gone(folder, name, 60_000);
  }
}

/** The last lines that it logged, for the message of an error. */
export function lastLines(process_: NativeProcess, count = 15): string {
  const file = join(process_.folder, `${process_.name}.log`);
  return existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n").slice(-count).join("\n") : "";
}

async function gone(folder: string, name: string, deadlineMs: number): Promise<void> {
  await until(`the end of ${name}`, deadlineMs, async () => {
    if (livingPid(folder, name) !== undefined) throw new Error("still running");
  });
}

/** The process id of one that runs; undefined if it does not. */
export function processId(process_: NativeProcess): number | undefined {
  return livingPid(process_.folder, process_.name);
}

/** Whether a process of this id runs: one that has ended and was not reaped yet does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return !existsSync("/proc/self/stat") || startedAt(pid) !== undefined;
}

function livingPid(folder: string, name: string): number | undefined {
  const identity = identityOf(folder, name);
  if (!identity || !isAlive(identity.pid)) return undefined;
  return startedAt(identity.pid) === identity.startedAt ? identity.pid : undefined;
}

function identityOf(folder: string, name: string): ProcessIdentity | undefined {
  const file = pidFile(folder, name);
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
}

/** The start time as /proc tells it; undefined without /proc, or for a process that has ended and was not yet reaped. */
function startedAt(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? undefined : rest[18];
  } catch {
    return undefined;
  }
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** A letter for each thread, as Linux has them; none elsewhere. */
function threadStates(pid: number | undefined): readonly string[] {
  const folder = `/proc/${pid}/task`;
  if (!existsSync(folder)) return [];
  return readdirSync(folder).map((thread) => {
    const stat = readFileSync(join(folder, thread, "stat"), "utf8");
    return stat.charAt(stat.lastIndexOf(")") + 2);
  });
}

function pidFile(folder: string, name: string): string {
  return join(folder, `${name}.pid`);
}
