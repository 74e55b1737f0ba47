import { mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** The folder in which runs keep what they fetched, made if it is missing. */
export async function cacheFolder(): Promise<string> {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "anybroker");
  await mkdir(cache, { recursive: true });
  return cache;
}
