import { randomUUID } from "node:crypto";
import { readlinkSync, writeFileSync } from "node:fs";
import { lstat, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { MessagingError } from "../../../core/index.ts";
import { readOwnText } from "../../../core/private-files.ts";

/** Nobody needs a lock for so long: whoever has it is gone. */
const STALE_MS = 10_000;
const FIRST_WAIT_MS = 2;
const LONGEST_WAIT_MS = 50;

/** Where process ids mean what they mean here: on this machine, and on Linux in this container. */
function pidSpace(): string {
  try {
    return `${hostname()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

/** Keeps the processes of one machine from changing the same files at the same time. */
export class FileLock {
  readonly #path: string;
  readonly #patienceMs: number;
  readonly #space = pidSpace();
  /** Those of this process come one after another. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string, patienceMs: number) {
    this.#path = path;
    this.#patienceMs = patienceMs;
  }

  /** `run` is told how to ask whether the lock is still ours: before it makes anything final. */
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
        "the migration's files were locked by another process meanwhile; try again",
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
        // In one go, so that hardly any death leaves a lock that does not say whose it is.
        writeFileSync(this.#path, token, { flag: "wx", mode: 0o600 });
        return;
      } catch (cause) {
        if ((cause as { code?: unknown }).code !== "EEXIST") throw cause;
        if (performance.now() > until) {
          const what = "another process holds the lock of the migration's files";
          throw new MessagingError("unreachable", `${what}; the call may be made again`, { cause });
        }
      }
      await this.#breakStale();
      await sleep(waitMs * (0.5 + Math.random()));
    }
  }

  /** Moved aside rather than removed: of several who find it stale, one does it, and none removes the next one's lock. */
  async #breakStale(): Promise<void> {
    const before = await this.#holder();
    const { mtimeMs } = (await lstat(this.#path).catch(() => undefined)) ?? { mtimeMs: Date.now() };
    if (Date.now() - mtimeMs < STALE_MS && !this.#isDead(before)) return;
    const aside = `${this.#path}.${randomUUID()}`;
    if ((await this.#holder()) === before) await rename(this.#path, aside).catch(() => undefined);
    await rm(aside, { force: true });
  }

  /** Whether the process that wrote the lock is seen to be gone. Of one elsewhere, only the time can tell. */
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
