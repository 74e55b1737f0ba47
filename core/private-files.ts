import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY } = constants;
/** What Windows does not have is 0 there. */
const { O_NOFOLLOW = 0, O_DIRECTORY = 0, O_NONBLOCK = 0 } = constants as Partial<typeof constants>;
const OTHERS = 0o077;
const OWN_FILE = 0o600;
const OWN_FOLDER = 0o700;

/**
 * Opens a file to read it and add to it, makes it if it is not there, and keeps all but its owner from it, also if it stood
 * there before. Follows no link. Rejects for what is no regular file, and for another's file that others may read.
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

/** The text of a file. Follows no link, and rejects for what is no regular file. */
export async function readOwnText(path: string): Promise<string> {
  const file = await regular(await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  try {
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** How a file is replaced. */
export interface Replacing {
  /** The name of what is written first, beside the file; what stands there is removed. Default: a name of its own each time. */
  readonly aside?: string;
  /** Called before the new file takes the old one's place; if it rejects, the old one stays. */
  readonly ready?: () => Promise<void>;
}

/**
 * Writes a file anew, readable by its owner only and synced to the disk, in place of one that may be there. A reader sees the
 * old one or the new one. Rejects, and leaves what is there, for a link and for what is no regular file.
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
 * Makes a folder, and those above it that are not there, and keeps all but its owner from it, also if it stood there before.
 * Rejects for a link, and for another's folder that others may read.
 */
export async function makeOwnFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: OWN_FOLDER });
  // Windows opens no folders, and has no such modes.
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
