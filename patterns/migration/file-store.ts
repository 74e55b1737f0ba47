import { createHash } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { makeOwnFolder, openToAppend, readOwnText, replaceFile } from "../../core/private-files.ts";
import { FileLock } from "./file-lock.ts";
import { Journal } from "./memory-store.ts";
import type {
  BarrierAck,
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MarkKind,
  MigrationStore,
  StoredMigration,
} from "./store.ts";

/** The number of journal files. One is in memory at a time. */
const FILES = 64;
const LETTER: Readonly<Record<MarkKind, string>> = { published: "p", handled: "h", dead: "d" };
const KIND: ReadonlyMap<unknown, MarkKind> = new Map([
  ["p", "published"],
  ["h", "handled"],
  ["d", "dead"],
]);

type Line = readonly [mark: string, source: string, id: string, at: number] | readonly ["f", string, number];

/** Marks in append-only files. */
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
    // A leading line end, in case a crash left half a line.
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

  /** Needs the lock, since it rewrites files. */
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

/** Adds a line to the journal. Skips half lines: their writer got no success. */
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
  /** How long a call waits for the lock, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const STATE = "state.json";

/**
 * A state store in a folder, for the processes of one machine. One file has the state; each change rewrites and syncs it.
 * Journal files are appended to. Uses the machine's clock. Creates the folder, and in it one folder per migration, only for
 * its owner. Do not use it on network drives. Throws `invalid` for wrong options; calls reject with it for a wrong name of a
 * migration.
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
interface MigrationFiles {
  readonly path: string;
  readonly lock: FileLock;
  readonly journal: FileJournal;
  /** A second lock, since marks are frequent and must not wait for changes, which are synced. */
  readonly journalLock: FileLock;
}

class FileMigrationStore implements MigrationStore {
  readonly name = "file";
  readonly #folder: string;
  readonly #timeoutMs: number;
  readonly #files = new Map<string, Promise<MigrationFiles>>();

  constructor(folder: string, timeoutMs: number) {
    this.#folder = folder;
    this.#timeoutMs = timeoutMs;
  }

  async #filesOf(migration: string): Promise<MigrationFiles> {
    // Another name could lead out of the folder.
    checkName("migration", migration);
    const folder = join(this.#folder, migration);
    let files = this.#files.get(migration);
    if (files === undefined) {
      files = makeOwnFolder(folder).then(() => ({
        path: join(folder, STATE),
        lock: new FileLock(join(folder, "lock"), this.#timeoutMs),
        journal: new FileJournal(folder),
        journalLock: new FileLock(join(folder, "journal.lock"), this.#timeoutMs),
      }));
      // The next call tries again.
      files.catch(() => this.#files.delete(migration));
      this.#files.set(migration, files);
    }
    return files;
  }

  read(migration: string): Promise<StoredMigration> {
    return asking("be read", async () => stored(await contentOf((await this.#filesOf(migration)).path)));
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
      const { barrierAcks } = await contentOf((await this.#filesOf(migration)).path);
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
      const { journal, journalLock } = await this.#filesOf(migration);
      await journalLock.hold(() => journal.add(marks));
    });
  }

  counts(migration: string): Promise<readonly JournalCounts[]> {
    return asking("be read", async () => (await this.#filesOf(migration)).journal.counts());
  }

  list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    return asking("be read", async () => (await this.#filesOf(migration)).journal.list(source, which, after, limit));
  }

  fold(migration: string, olderThanMs: number, limit: number): Promise<number> {
    return asking("fold", async () => {
      const { journal, journalLock } = await this.#filesOf(migration);
      return journalLock.hold((stillOurs) => journal.fold(Date.now() - olderThanMs, limit, stillOurs));
    });
  }

  forget(migration: string): Promise<void> {
    return asking("forget", async () => {
      const { path, lock, journal, journalLock } = await this.#filesOf(migration);
      await lock.hold(() => rm(path, { force: true }));
      await journalLock.hold(() => journal.forget());
    });
  }

  #change<Result>(migration: string, change: (content: Content) => Result): Promise<Result> {
    return asking("take a change", async () => {
      const { path, lock } = await this.#filesOf(migration);
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
  // Without a prototype: names come from users.
  return {
    revision,
    document,
    instances: Object.assign(Object.create(null), instances),
    barrierAcks: Object.assign(Object.create(null), barrierAcks),
  };
}

/** Throws `conflict` for a file that the store did not write. */
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
    `${path} was not written by the migration's state store: it was changed, or damaged by the disk. Restore it from a copy`,
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
