import { delimiter, join } from "node:path";
import { debianPackages, hasDebianPackage, libraryFolders } from "../debian-packages.ts";
import { findProgram } from "../find-program.ts";

/** What a Valkey or Redis can be started with. */
export interface ValkeyInstallation {
  readonly program: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** The Valkey or Redis on the PATH, or else Debian's packages unpacked into the cache. Installs nothing. */
export async function findValkey(): Promise<ValkeyInstallation> {
  const program = findProgram("valkey-server") ?? findProgram("redis-server");
  return program ? { program, environment: {} } : await unpacked();
}

async function unpacked(): Promise<ValkeyInstallation> {
  // Debian has Valkey from 13 on. Either server is a link to a program that comes with its tools.
  const name = (await hasDebianPackage("valkey-server")) ? "valkey-server" : "redis-server";
  const root = await debianPackages({ name, families: /^(valkey|redis)-tools$/ });
  return {
    program: join(root, "usr/bin", name),
    environment: { LD_LIBRARY_PATH: libraryFolders(root).join(delimiter) },
  };
}
