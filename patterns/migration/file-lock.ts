import { randomUUID } from "node:crypto";
import { readlinkSync, writeFileSync } from "node:fs";
import { lstat, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { MessagingError } from "../../core/errors.ts";
import { readOwnText } from "../../core/private-files.ts";

/** A lock this old belongs to a crashed process. */
const STALE_MS = 10_000;
const FIRST_WAIT_MS = 2;
const LONGEST_WAIT_MS = 50;

/** Identifies the scope of process ids: this machine, and on Linux this container. */
function pidSpace(): string {
  try {
    return `${hostname()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

/** A lock file between the processes of one machine. */
export class FileLock {
  readonly #path: string;
  readonly #patienceMs: number;
  readonly #space = pidSpace();
  /** Calls in this process run one after another. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string, patienceMs: number) {
    this.#path = path;
    this.#patienceMs = patienceMs;
  }

  /** Runs with the lock. `run` calls `stillOurs` before it changes a file; it rejects if the lock was lost. */
  hold<Result>(run: (stillOurs: () => Promise<void>) => Promise<Result>): Promise<Result> {
    const held = this.#last.then(() => this.#hold(run));
    this.#last = held.catch(() => undefined);
    return held;
  }

  async #hold<Result>(run: (stillOurs: () => Promise<void>) => Promise<Result>): Promise<Result> {
    const token = `${randomUUID()} ${process.pid} ${this.#space}`;
    await this.#take(token);
    const stillOurs = async (): Promise<void> => {
      if ((await this.#holder()) === token) return;
      throw new MessagingError(
        "unreachable",
        "the lock of the migration's files was lost to another process; try again",
      );
    };
    try {
      return await run(stillOurs);
    } finally {
      if ((await this.#holder()) === token) await rm(this.#path, { force: true });
    }
  }

  async #take(token: string): Promise<void> {
    const until = performance.now() + this.#patienceMs;
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)) {
      try {
        // In one write, so that a crash can hardly leave a lock without its owner.
        writeFileSync(this.#path, token, { flag: "wx", mode: 0o600 });
        return;
      } catch (cause) {
        if ((cause as { code?: unknown }).code !== "EEXIST") throw cause;
        if (performance.now() > until) {
          const what = "another process holds the lock of the migration's files";
          throw new MessagingError("unreachable", `${what}; try again`, { cause });
        }
      }
      await this.#breakStale();
      await sleep(waitMs * (0.5 + Math.random()));
    }
  }

  /** Renames the lock instead of removing it: of several processes one succeeds, and none removes the next lock. */
  async #breakStale(): Promise<void> {
    const before = await this.#holder();
    const { mtimeMs } = (await lstat(this.#path).catch(() => undefined)) ?? { mtimeMs: Date.now() };
    if (Date.now() - mtimeMs < STALE_MS && !this.#isDead(before)) return;
    const aside = `${this.#path}.${randomUUID()}`;
    if ((await this.#holder()) === before) await rename(this.#path, aside).catch(() => undefined);
    await rm(aside, { force: true });
  }

  /** Whether the owner of the lock has crashed. For owners on another machine only the age decides. */
  #isDead(holder: string | undefined): boolean {
    const [, pid, ...space] = holder?.split(" ") ?? [];
    if (pid === undefined || space.join(" ") !== this.#space) return false;
    try {
      process.kill(Number(pid), 0);
      return false;
    } catch (error) {
      return (error as { code?: unknown }).code === "ESRCH";
    }
  }

  async #holder(): Promise<string | undefined> {
    return readOwnText(this.#path).catch(() => undefined);
  }
}
