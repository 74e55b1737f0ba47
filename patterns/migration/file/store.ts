import { createHash, randomUUID } from "node:crypto";
import { readlinkSync, writeFileSync } from "node:fs";
import { lstat, readdir, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkInteger, checkName, checkOptions } from "../../../core/checks.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { makeOwnFolder, openToAppend, readOwnText, replaceFile } from "../../../core/private-files.ts";
import { Journal } from "../memory-store.ts";
import type {
  BarrierAck,
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MarkKind,
  MigrationStore,
  StoredMigration,
} from "../store.ts";

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
          throw new MessagingError("unreachable", `${what}; the call can be repeated`, { cause });
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

/** So many files, of which one is looked at at a time. */
const FILES = 64;
const LETTER: Readonly<Record<MarkKind, string>> = { published: "p", handled: "h", dead: "d" };
const KIND: ReadonlyMap<unknown, MarkKind> = new Map([
  ["p", "published"],
  ["h", "handled"],
  ["d", "dead"],
]);

type Line = readonly [mark: string, source: string, id: string, at: number] | readonly ["f", string, number];

/** Marks in files that are only added to: memory holds those of one file at a time. */
class FileJournal {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async add(marks: readonly JournalMark[]): Promise<void> {
    const texts = new Map<string, string>();
    for (const { source, id, mark } of marks) {
      const file = this.#fileOf(id);
      const line: Line = [LETTER[mark], source, id, Date.now()];
      texts.set(file, `${texts.get(file) ?? ""}${JSON.stringify(line)}\n`);
    }
    // On a line of its own, whatever a death left at the end.
    await Promise.all([...texts].map(([file, text]) => append(file, `\n${text}`)));
  }

  #fileOf(id: string): string {
    const [first = 0] = createHash("sha256").update(id).digest();
    return join(this.#folder, `journal-${String(first % FILES).padStart(2, "0")}.jsonl`);
  }

  async counts(): Promise<readonly JournalCounts[]> {
    const sums = new Map<string, JournalCounts>();
    for await (const { journal } of this.#files()) {
      for (const each of journal.counts()) {
        const sum = sums.get(each.source);
        sums.set(each.source, sum === undefined ? each : added(sum, each));
      }
    }
    return [...sums.values()];
  }

  async list(
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    let ids: string[] = [];
    for await (const { journal } of this.#files()) {
      ids = [...ids, ...journal.list(source, which, after, limit)].sort().slice(0, limit);
    }
    return ids;
  }

  /** Under the lock, since it writes files anew. */
  async fold(before: number, limit: number, stillOurs: () => Promise<void>): Promise<number> {
    let folded = 0;
    for await (const { journal, name, path } of this.#files()) {
      const some = journal.fold(before, limit - folded);
      if (some === 0) continue;
      const lines = [...journal.entries()].flatMap(({ source, id, marks, at }) =>
        marks.map((mark): Line => [LETTER[mark], source, id, at]),
      );
      for (const [source, count] of journal.folded()) lines.push(["f", source, count]);
      const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
      await replaceFile(path, text, { aside: `${name}.new`, ready: stillOurs });
      folded += some;
      if (folded >= limit) break;
    }
    return folded;
  }

  async forget(): Promise<void> {
    for (const name of await this.#names()) await rm(join(this.#folder, name), { force: true });
  }

  async #names(): Promise<readonly string[]> {
    return (await readdir(this.#folder)).filter((name) => /^journal-\d\d\.jsonl$/.test(name)).sort();
  }

  async *#files(): AsyncGenerator<{ readonly journal: Journal; readonly name: string; readonly path: string }> {
    for (const name of await this.#names()) {
      const path = join(this.#folder, name);
      const journal = new Journal();
      for (const line of (await readOwnText(path)).split("\n")) read(journal, line);
      yield { journal, name, path };
    }
  }
}

async function append(path: string, text: string): Promise<void> {
  const file = await openToAppend(path);
  try {
    await file.appendFile(text);
  } finally {
    await file.close();
  }
}

/** Passes over what is no line of a journal: whoever left it half written was not told that it stands. */
function read(journal: Journal, text: string): void {
  const [letter, source, third, at] = lineIn(text);
  if (typeof source !== "string") return;
  if (letter === "f" && Number.isSafeInteger(third)) journal.addFolded(source, third as number);
  const mark = KIND.get(letter);
  if (mark !== undefined && typeof third === "string" && typeof at === "number")
    journal.mark({ source, id: third, mark }, at);
}

function lineIn(text: string): readonly unknown[] {
  try {
    const line: unknown = JSON.parse(text);
    return Array.isArray(line) ? line : [];
  } catch {
    return [];
  }
}

function added(one: JournalCounts, other: JournalCounts): JournalCounts {
  return {
    source: one.source,
    published: one.published + other.published,
    handled: one.handled + other.handled,
    missing: one.missing + other.missing,
    dead: one.dead + other.dead,
    unexpected: one.unexpected + other.unexpected,
  };
}

/** The options of {@link fileMigrationStore}. */
export interface FileMigrationStoreOptions {
  /** Milliseconds after which a call that could not lock the files rejects. Default 5,000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const STATE = "state.json";

/**
 * A state store in a folder, for the processes of one machine: one file for the state, which is written anew with each change
 * and synced to the disk, and files for the journal, which are added to. Its time is the machine's. Makes the folder if it is
 * not there, and in it one for each migration, from which all but its owner are kept. Not for network drives. Throws
 * `invalid` for wrong options; calls reject with it for what is no name of a migration.
 */
export function fileMigrationStore(folder: string, options: FileMigrationStoreOptions = {}): MigrationStore {
  const where = "fileMigrationStore";
  if (typeof folder !== "string" || folder === "") {
    throw new MessagingError("invalid", `${where}(folder) takes the path of a folder`);
  }
  checkOptions(where, options, ["timeoutMs"]);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  return new FileMigrationStore(folder, timeoutMs);
}

interface Content {
  revision: number;
  document: string | undefined;
  instances: Record<string, { readonly acting: number; readonly report: string; readonly endsAt: number }>;
  barrierAcks: Record<string, number>;
}

/** The files of one migration. */
interface Place {
  readonly path: string;
  readonly lock: FileLock;
  readonly journal: FileJournal;
  /** Of its own, so that marks, which are many, do not wait for changes, which wait for the disk. */
  readonly journalLock: FileLock;
}

class FileMigrationStore implements MigrationStore {
  readonly name = "file";
  readonly #folder: string;
  readonly #timeoutMs: number;
  readonly #places = new Map<string, Promise<Place>>();

  constructor(folder: string, timeoutMs: number) {
    this.#folder = folder;
    this.#timeoutMs = timeoutMs;
  }

  async #place(migration: string): Promise<Place> {
    // Any other could lead out of the folder.
    checkName("migration", migration);
    const folder = join(this.#folder, migration);
    let place = this.#places.get(migration);
    if (place === undefined) {
      place = makeOwnFolder(folder).then(() => ({
        path: join(folder, STATE),
        lock: new FileLock(join(folder, "lock"), this.#timeoutMs),
        journal: new FileJournal(folder),
        journalLock: new FileLock(join(folder, "journal.lock"), this.#timeoutMs),
      }));
      // A folder that cannot be made now may be later.
      place.catch(() => this.#places.delete(migration));
      this.#places.set(migration, place);
    }
    return place;
  }

  read(migration: string): Promise<StoredMigration> {
    return asking("be read", async () => stored(await contentOf((await this.#place(migration)).path)));
  }

  beat(migration: string, { instance, acting, report, leaseMs }: InstanceBeat): Promise<StoredMigration> {
    return this.#change(migration, (content) => {
      const now = Date.now();
      for (const [other, { endsAt }] of Object.entries(content.instances)) {
        if (endsAt <= now) delete content.instances[other];
      }
      content.instances[instance] = { acting, report, endsAt: now + leaseMs };
      return stored(content);
    });
  }

  leave(migration: string, instance: string): Promise<void> {
    return this.#change(migration, (content) => {
      delete content.instances[instance];
    });
  }

  change(migration: string, expected: number, document: string): Promise<"changed" | "conflict"> {
    return this.#change(migration, (content) => {
      if (content.revision !== expected) return "conflict";
      content.revision++;
      content.document = document;
      return "changed";
    });
  }

  acknowledgeBarrier(migration: string, barrierAcks: readonly BarrierAck[]): Promise<void> {
    return this.#change(migration, (content) => {
      for (const { scope, epoch } of barrierAcks)
        content.barrierAcks[scope] = Math.max(content.barrierAcks[scope] ?? 0, epoch);
    });
  }

  barrierAcks(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    return asking("be read", async () => {
      const { barrierAcks } = await contentOf((await this.#place(migration)).path);
      return scopes.map((scope) => barrierAcks[scope] ?? 0);
    });
  }

  clearBarrierAcks(migration: string): Promise<void> {
    return this.#change(migration, (content) => {
      content.barrierAcks = Object.create(null);
    });
  }

  mark(migration: string, marks: readonly JournalMark[]): Promise<void> {
    return asking("take marks", async () => {
      const { journal, journalLock } = await this.#place(migration);
      await journalLock.hold(() => journal.add(marks));
    });
  }

  counts(migration: string): Promise<readonly JournalCounts[]> {
    return asking("be read", async () => (await this.#place(migration)).journal.counts());
  }

  list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    return asking("be read", async () => (await this.#place(migration)).journal.list(source, which, after, limit));
  }

  fold(migration: string, olderThanMs: number, limit: number): Promise<number> {
    return asking("fold", async () => {
      const { journal, journalLock } = await this.#place(migration);
      return journalLock.hold((stillOurs) => journal.fold(Date.now() - olderThanMs, limit, stillOurs));
    });
  }

  forget(migration: string): Promise<void> {
    return asking("forget", async () => {
      const { path, lock, journal, journalLock } = await this.#place(migration);
      await lock.hold(() => rm(path, { force: true }));
      await journalLock.hold(() => journal.forget());
    });
  }

  #change<Result>(migration: string, change: (content: Content) => Result): Promise<Result> {
    return asking("take a change", async () => {
      const { path, lock } = await this.#place(migration);
      return lock.hold(async (stillOurs) => {
        const content = await contentOf(path);
        const result = change(content);
        await replaceFile(path, JSON.stringify(content), { aside: `${STATE}.new`, ready: stillOurs });
        return result;
      });
    });
  }
}

function stored({ revision, document, instances }: Content): StoredMigration {
  const now = Date.now();
  const alive = Object.entries(instances).filter(([, { endsAt }]) => endsAt > now);
  return {
    revision,
    document,
    instances: alive.map(([instance, { acting, report, endsAt }]) => ({
      instance,
      acting,
      report,
      remainingMs: endsAt - now,
    })),
    now,
  };
}

async function contentOf(path: string): Promise<Content> {
  let text: string;
  try {
    text = await readOwnText(path);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOENT") throw error;
    return { revision: 0, document: undefined, instances: Object.create(null), barrierAcks: Object.create(null) };
  }
  const { revision, document, instances, barrierAcks } = contentIn(text, path);
  // Names are other people's words: none of them is special.
  return {
    revision,
    document,
    instances: Object.assign(Object.create(null), instances),
    barrierAcks: Object.assign(Object.create(null), barrierAcks),
  };
}

/** Throws `conflict` for what no store wrote: waiting does not mend it. */
function contentIn(text: string, path: string): Content {
  let content: Partial<Content> | null;
  try {
    content = JSON.parse(text) as Partial<Content> | null;
  } catch {
    content = null;
  }
  if (isContent(content)) return content;
  throw new MessagingError(
    "conflict",
    `${path} is not what the migration's state store wrote: something else changed it, or a disk lost it. Restore it from a copy`,
  );
}

function isContent(content: Partial<Content> | null): content is Content {
  if (typeof content !== "object" || content === null) return false;
  const { revision, document, instances, barrierAcks } = content;
  return (
    Number.isSafeInteger(revision) &&
    (document === undefined || typeof document === "string") &&
    [instances, barrierAcks].every((each) => typeof each === "object" && each !== null) &&
    Object.values(instances ?? {}).every((one: unknown) => typeof one === "object" && one !== null)
  );
}

async function asking<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (isMessagingError(cause)) throw cause;
    throw new MessagingError("unreachable", `the migration state store's files could not ${what}; see the cause`, {
      cause,
    });
  }
}
