import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** The Java of `JAVA_HOME`, or else of the PATH, that is recent enough for a program. Rejects if there is none. */
export async function findJava(program: string, atLeast: number): Promise<string> {
  const { JAVA_HOME } = process.env;
  const found: string[] = [];
  for (const java of [...(JAVA_HOME ? [join(JAVA_HOME, "bin/java")] : []), "java"]) {
    const version = await versionOf(java);
    if (version === undefined) continue;
    if (version >= atLeast) return java;
    found.push(`${java} is Java ${version}`);
  }
  const what = found.length === 0 ? "neither JAVA_HOME nor the PATH has `java`" : found.join(", ");
  throw new Error(`${program} needs Java ${atLeast} or later: ${what}`);
}

async function versionOf(java: string): Promise<number | undefined> {
  try {
    const { stderr } = await execute(java, ["-version"], { timeout: 30_000 });
    const [, first, second] = /version "(\d+)(?:\.(\d+))?/.exec(stderr) ?? [];
    // Up to 8 it was 1.8.
    return Number(first === "1" ? second : first) || undefined;
  } catch {
    return undefined;
  }
}
