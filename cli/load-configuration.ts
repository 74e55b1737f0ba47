import { existsSync, statSync } from "node:fs";
import { basename, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { thrownText } from "../core/foreign.ts";
import { type Configuration, defineConfig } from "./configuration.ts";
import { type Context, unlessAborted, unlessLate } from "./context.ts";
import { CommandError } from "./exit-codes.ts";

const LOADING_MS = 60_000;

/** In this order, and only in the current folder: the file is executed. */
const CONFIGURATION_FILES: readonly string[] = [
  "anybroker.config.ts",
  "anybroker.config.mts",
  "anybroker.config.js",
  "anybroker.config.mjs",
];

/** Loads a configuration file, or the one in the current folder; empty if there is none. Rejects with a `CommandError`. */
export async function loadConfiguration(
  file: string | undefined,
  context: Pick<Context, "cwd" | "clock">,
  signal: AbortSignal,
): Promise<Configuration> {
  const { cwd } = context;
  const path = file === undefined ? found(cwd) : resolve(cwd, file);
  if (path === undefined) return {};
  if (!existsSync(path)) throw new CommandError("no-input", `the configuration file ${path} does not exist`);
  refuseNoFile(path, "the configuration");
  const late = (): CommandError =>
    wrong(path, `it was not loaded within ${LOADING_MS / 1_000} s; check what it waits for outside of functions`);
  const { exported } = await unlessAborted(unlessLate(imported(path), context, LOADING_MS, late), signal);
  if (exported === undefined) {
    throw wrong(path, "it has no default export: write export default defineConfig({ … })");
  }
  try {
    return defineConfig(exported as Configuration);
  } catch (error) {
    // A getter may throw anything.
    throw wrong(path, thrownText(error), error);
  }
}

/** Loading a pipe would wait for its end, and nothing could end that wait. */
export function refuseNoFile(path: string, what: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === false)
    throw new CommandError("no-input", `${what} ${path} is no regular file`);
}

function found(folder: string): string | undefined {
  return CONFIGURATION_FILES.map((name) => resolve(folder, name)).find((path) => existsSync(path));
}

/** In an object, because an export with a `then` would be awaited. */
async function imported(path: string): Promise<{ readonly exported: unknown }> {
  try {
    const module = (await import(pathToFileURL(path).href)) as { readonly default?: unknown };
    return { exported: module.default };
  } catch (error) {
    throw unloadable(path, error);
  }
}

function unloadable(path: string, error: unknown): CommandError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const message = thrownText(error);
  const missing = /Cannot find package '([^']+)'/.exec(message)?.[1];
  if (code === "ERR_MODULE_NOT_FOUND" && missing !== undefined) {
    const text = `the configuration ${path} needs the package ${missing}, which is not installed: npm install ${missing}`;
    return new CommandError("unavailable", text, { cause: error });
  }
  if (code === "ERR_UNKNOWN_FILE_EXTENSION") {
    const text = `this Node.js (${process.version}) does not load TypeScript: use 22.18 or later, or write anybroker.config.js`;
    return new CommandError("configuration", `${path}: ${text}`, { cause: error });
  }
  if (
    /^Cannot use import statement outside a module|^Unexpected token 'export'/.test(message) &&
    !/\.m[jt]s$/.test(path)
  ) {
    const better = path.replace(/\.([jt]s)$/, ".m$1");
    return wrong(path, `its package has no "type": "module": rename it to ${basename(better)}`, error);
  }
  return wrong(path, message, error);
}

function wrong(path: string, what: string, cause?: unknown): CommandError {
  return new CommandError("configuration", `the configuration ${path} cannot be used: ${what}`, { cause });
}
