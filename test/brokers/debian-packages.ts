import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { cacheFolder } from "./cache.ts";

const execute = promisify(execFile);

export interface PackageSet {
  /** The package that is wanted. */
  readonly name: string;
  /** Dependencies that are always unpacked, even if the system has them, since their files must lie together. */
  readonly families: RegExp;
  /** Changes files that hold absolute paths, for a tree that will be moved from `unpackedIn` to `root`. */
  adapt?(unpackedIn: string, root: string): Promise<void>;
}

/**
 * Fetches a Debian package with what it needs and the system lacks, unpacks all into a cache, and returns the root of
 * that tree. Needs no rights and changes nothing of the system. A second call finds the tree in the cache.
 */
export async function debianPackages(wanted: PackageSet): Promise<string> {
  if (!(await has("apt-get")) || !(await has("dpkg-deb"))) {
    throw new Error(`${wanted.name} is not on the PATH, and this system has no Debian packages to fetch`);
  }
  const cache = await cacheFolder();
  const key = await systemKey();
  const root = join(cache, `${wanted.name}-${key}`);
  if (existsSync(root)) return root;

  const work = await mkdtemp(join(cache, `${wanted.name}-unpacking-`));
  try {
    const files = await download(wanted, work, cache);
    const tree = join(work, "tree");
    await mkdir(tree);
    for (const file of files) await execute("dpkg-deb", ["-x", file, tree]);
    await wanted.adapt?.(tree, root);
    await rename(tree, root).catch((error: unknown) => {
      // Another run was faster: its tree is as good.
      if (!existsSync(root)) throw error;
    });
    return root;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Whether this system's lists have a package. */
export async function hasDebianPackage(name: string): Promise<boolean> {
  return execute("apt-cache", ["show", name], { maxBuffer: 16 << 20 }).then(
    ({ stdout }) => stdout.trim() !== "",
    () => false,
  );
}

/** Where the packages of such a tree keep shared libraries: one folder per architecture, of which there is one here. */
export function libraryFolders(root: string): string[] {
  return ["usr/lib", "lib"]
    .map((folder) => join(root, folder))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((folder) => folder.endsWith("-linux-gnu") || folder.endsWith("-linux-gnueabihf"));
}

/** Downloads by the system's package lists, or, where those are missing or out of date, by fresh lists of our own. */
async function download(wanted: PackageSet, work: string, cache: string): Promise<string[]> {
  try {
    return await downloadBy([], wanted, work);
  } catch {
    const lists = join(cache, "apt");
    await mkdir(join(lists, "lists/partial"), { recursive: true });
    await mkdir(join(lists, "cache/archives/partial"), { recursive: true });
    const options = [
      `Dir::State::lists=${join(lists, "lists")}`,
      `Dir::Cache=${join(lists, "cache")}`,
      "Debug::NoLocking=1",
      "APT::Sandbox::User=root",
    ].flatMap((option) => ["-o", option]);
    try {
      await execute("apt-get", [...options, "update", "-q"], { maxBuffer: 16 << 20, timeout: 300_000 });
      return await downloadBy(options, wanted, work);
    } catch (cause) {
      const last = String(cause).trimEnd().split("\n").at(-1);
      throw new Error(`${wanted.name} is not on the PATH, and Debian's packages cannot be fetched: ${last}`, { cause });
    }
  }
}

async function downloadBy(options: readonly string[], wanted: PackageSet, work: string): Promise<string[]> {
  const names = new Set([
    wanted.name,
    ...(await family(options, wanted)),
    ...(await missingOnThisSystem(options, wanted)),
  ]);
  const folder = await mkdtemp(join(work, "packages-"));
  await execute("apt-get", [...options, "-q", "download", ...names], {
    cwd: folder,
    maxBuffer: 16 << 20,
    timeout: 600_000,
  });
  const files = (await readdir(folder)).filter((file) => file.endsWith(".deb"));
  if (files.length < names.size) throw new Error(`${names.size - files.length} of ${names.size} packages are missing`);
  return files.map((file) => join(folder, file));
}

/** The dependencies, of dependencies too, that belong to the families. */
async function family(options: readonly string[], wanted: PackageSet): Promise<string[]> {
  const no = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map((kind) => `--no-${kind}`);
  const { stdout } = await execute("apt-cache", [...options, "depends", "--recurse", ...no, wanted.name], {
    maxBuffer: 64 << 20,
  });
  return stdout.split("\n").filter((line) => wanted.families.test(line));
}

/** What an installation would bring beyond the families, asked of a simulation: shared libraries, on a bare system. */
async function missingOnThisSystem(options: readonly string[], wanted: PackageSet): Promise<string[]> {
  try {
    const { stdout } = await execute(
      "apt-get",
      [...options, "install", "--simulate", "--no-install-recommends", wanted.name],
      { maxBuffer: 16 << 20, env: { ...process.env, LC_ALL: "C" } },
    );
    return stdout.split("\n").flatMap((line) => /^Inst (lib\S+)/.exec(line)?.slice(1) ?? []);
  } catch {
    // A system in the middle of something else cannot simulate; its libraries may well be enough.
    return [];
  }
}

/** A tree of one system does not fit another. */
async function systemKey(): Promise<string> {
  const { stdout: architecture } = await execute("dpkg", ["--print-architecture"]);
  const { stdout: release } = await execute("sh", ["-c", '. /etc/os-release && echo "$ID-$VERSION_ID"']);
  return `${release.trim()}-${architecture.trim()}`;
}

async function has(program: string): Promise<boolean> {
  return execute(program, ["--version"]).then(
    () => true,
    () => false,
  );
}
