import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY } = constants;
/** Flags that Windows lacks are 0 there. */
const { O_NOFOLLOW = 0, O_DIRECTORY = 0, O_NONBLOCK = 0 } = constants as Partial<typeof constants>;
const OTHERS = 0o077;
const OWN_FILE = 0o600;
const OWN_FOLDER = 0o700;

/**
 * Opens a file for reading and appending, creates it if needed, and makes it private to its owner, also if it existed.
 * Follows no link. Rejects for anything but a regular file, and for a file of another user that others may read.
 */
export async function openToAppend(path: string): Promise<FileHandle> {
  const file = await regular(await open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, OWN_FILE));
  try {
    await keepOthersOut(file, OWN_FILE);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads the text of a file. Follows no link, and rejects for anything but a regular file. */
export async function readOwnText(path: string): Promise<string> {
  const file = await regular(await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  try {
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** The options of {@link replaceFile}. */
interface Replacing {
  /** The name of the temporary file in the same folder; an existing one is removed. Default: a new name each time. */
  readonly aside?: string;
  /** Is called before the new file replaces the old one; if it rejects, the old one stays. */
  readonly ready?: () => Promise<void>;
}

/**
 * Writes a new file that only its owner can read, syncs it to disk, and replaces an existing one. Readers see the old file
 * or the new one. Rejects, and changes nothing, for a link and for anything but a regular file.
 */
export async function replaceFile(path: string, text: string, { aside, ready }: Replacing = {}): Promise<void> {
  const there = await lstat(path).catch((error: unknown) => {
    if ((error as { readonly code?: unknown }).code !== "ENOENT") throw error;
  });
  if (there !== undefined && !there.isFile()) throw noFile();
  const beside = join(dirname(path), aside ?? `.${basename(path)}.${randomUUID()}`);
  if (aside !== undefined) await rm(beside, { force: true });
  const file = await open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, OWN_FILE);
  try {
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await ready?.();
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => {});
    throw error;
  }
}

/**
 * Creates a folder, with its parents, and makes it private to its owner, also if it existed. Rejects for a link, and for
 * a folder of another user that others may read.
 */
export async function makeOwnFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: OWN_FOLDER });
  // Windows cannot open folders and has no such modes.
  if (O_DIRECTORY === 0) return;
  const folder = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    await keepOthersOut(folder, OWN_FOLDER);
  } finally {
    await folder.close();
  }
}

async function keepOthersOut(handle: FileHandle, mode: number): Promise<void> {
  const { mode: found } = await handle.stat();
  if ((found & OTHERS) !== 0 && O_NOFOLLOW !== 0) await handle.chmod(mode);
}

async function regular(file: FileHandle): Promise<FileHandle> {
  try {
    if ((await file.stat()).isFile()) return file;
  } catch (error) {
    await file.close();
    throw error;
  }
  await file.close();
  throw noFile();
}

function noFile(): Error {
  return new Error("it is a link, or no regular file");
}
