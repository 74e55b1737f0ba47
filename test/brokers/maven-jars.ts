import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { cacheFolder } from "./cache.ts";

const execute = promisify(execFile);

/**
 * Fetches artifacts (`group:artifact:version`) with all that they depend on through Maven, and returns the folder of
 * their jars in the cache, which has the name given. A second call finds them there. Installs nothing.
 */
export async function mavenJars(name: string, artifacts: readonly string[]): Promise<string> {
  const cache = await cacheFolder();
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;

  const work = await mkdtemp(join(cache, `${name}-fetching-`));
  try {
    const pom = join(work, "pom.xml");
    const jars = join(work, "jars");
    await writeFile(pom, projectOf(artifacts));
    await runMaven(name, ["-f", pom, "dependency:copy-dependencies", `-DoutputDirectory=${jars}`]);
    if ((await readdir(jars)).length === 0) throw new Error(`Maven fetched nothing for ${name}`);
    await rename(jars, folder).catch((error: unknown) => {
      // Another run was faster: its folder is as good.
      if (!existsSync(folder)) throw error;
    });
    return folder;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function runMaven(name: string, args: readonly string[]): Promise<void> {
  try {
    await execute("mvn", ["-q", "-B", ...args], { maxBuffer: 16 << 20, timeout: 600_000 });
  } catch (cause) {
    if (isMissing(cause)) {
      throw new Error(`${name} is not in the cache, and there is no Maven (\`mvn\` on the PATH) to fetch it`, {
        cause,
      });
    }
    const { stdout = "" } = cause as { stdout?: string };
    const reason = stdout.split("\n").find((line) => line.startsWith("[ERROR]")) ?? String(cause);
    throw new Error(`${name} cannot be fetched through Maven: ${reason}`, { cause });
  }
}

function isMissing(cause: unknown): boolean {
  return cause instanceof Error && "code" in cause && cause.code === "ENOENT";
}

function projectOf(artifacts: readonly string[]): string {
  const dependencies = artifacts.map((artifact) => {
    const [group, name, version] = artifact.split(":");
    return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`;
  });
  return [
    '<project xmlns="http://maven.apache.org/POM/4.0.0">',
    "<modelVersion>4.0.0</modelVersion>",
    "<groupId>anybroker</groupId><artifactId>test-brokers</artifactId><version>1</version>",
    `<dependencies>${dependencies.join("")}</dependencies>`,
    "</project>",
    "",
  ].join("\n");
}
