import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The path of a program of this machine, if it has it. */
export function findProgram(name: string): string | undefined {
  // Debian puts servers where only root's PATH looks.
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
}
