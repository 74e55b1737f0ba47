import { rm } from "node:fs/promises";
import { join } from "node:path";
import { checkInteger, checkName, checkOptions } from "../../../core/checks.ts";
import { isMessagingError, MessagingError } from "../../../core/index.ts";
import { makeOwnFolder, readOwnText, replaceFile } from "../../../core/private-files.ts";
import type {
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MigrationStore,
  Seal,
  StoredMigration,
} from "../store.ts";
import { FileJournal } from "./journal.ts";
import { FileLock } from "./lock.ts";

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
  seals: Record<string, number>;
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

  seal(migration: string, seals: readonly Seal[]): Promise<void> {
    return this.#change(migration, (content) => {
      for (const { scope, epoch } of seals) content.seals[scope] = Math.max(content.seals[scope] ?? 0, epoch);
    });
  }

  seals(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    return asking("be read", async () => {
      const { seals } = await contentOf((await this.#place(migration)).path);
      return scopes.map((scope) => seals[scope] ?? 0);
    });
  }

  clearSeals(migration: string): Promise<void> {
    return this.#change(migration, (content) => {
      content.seals = Object.create(null);
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
    return { revision: 0, document: undefined, instances: Object.create(null), seals: Object.create(null) };
  }
  const { revision, document, instances, seals } = JSON.parse(text) as Content;
  // Names are other people's words: none of them is special.
  return {
    revision,
    document,
    instances: Object.assign(Object.create(null), instances),
    seals: Object.assign(Object.create(null), seals),
  };
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
