import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BuiltPackage, buildPackage, developmentEnvironment } from "../package/built-package.ts";

/**
 * A configuration as an application writes it: `DEAD` orders are dead, and what `HANG` names hangs; with `NO_CONFIGURATION` it is
 * as if there was none.
 */
const CONFIGURATION = `
import { type Adapter, createBroker, deadLetter, queue, subscription, topic } from "anybroker";
import { defineConfig } from "anybroker/cli";
import { memory, memorySpace } from "anybroker/memory";

interface Order {
  readonly id: string;
}
const space = memorySpace();
const orders = queue<Order>("orders");
const placed = topic<Order>("order.placed");
const destinations = [orders, placed, subscription(placed, "billing")];
function forever(): Promise<never> {
  console.error("it hangs");
  return new Promise(() => {});
}

async function stocked(): Promise<Adapter> {
  const count = Number(process.env.DEAD ?? 0);
  const broker = createBroker(memory({ space }), { destinations });
  const consumer = broker.consume(orders, ({ id }) => deadLetter(\`no \${id}\`), { retry: { attempts: 1 } });
  await broker.start();
  await broker.sendMany(orders, Array.from({ length: count }, (_, index) => ({ body: { id: \`o-\${index}\` } })));
  while (consumer.status().deadLettered < count) await new Promise((resolve) => setImmediate(resolve));
  await broker.stop();
  if (process.env.HANG === "open") setInterval(() => {}, 1_000);
  return process.env.HANG === "broker" ? forever() : memory({ space });
}

const configuration = {
  broker: stocked,
  destinations,
  by: "ann",
  ...(process.env.HANG === "close" ? { close: forever } : {}),
};

export default defineConfig(process.env.NO_CONFIGURATION === undefined ? configuration : {});
`;

/** The package as it is installed, with a configuration. */
export interface Installed {
  readonly folder: string;
  /** The command as a shell takes it. */
  readonly shell: string;
  /** Starts the command. */
  start(line: readonly string[], env?: Readonly<Record<string, string>>): Started;
  remove(): void;
}

/** Builds the package, with a configuration in its folder. */
export async function installed(): Promise<Installed> {
  const built: BuiltPackage = await buildPackage();
  writeFileSync(join(built.folder, "anybroker.config.ts"), CONFIGURATION);
  const main = join(built.folder, "dist/cli/main.js");
  return {
    folder: built.folder,
    shell: `node ${main}`,
    start: (line, env = {}) => started("node", [main, ...line], built.folder, env),
    remove: () => built.remove(),
  };
}

/** A process that was started. */
export interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  /** Resolves when what it printed matches; rejects if it ends without. */
  printed(pattern: RegExp): Promise<string>;
  /** Resolves when it has ended. */
  ended(): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
}

/** Starts a program with the programs of the development dependencies first, and no broker in its environment. */
export function started(
  program: string,
  words: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>>,
): Started {
  const { BROKER_URL: _, NO_COLOR: __, CI: ___, ...environment } = developmentEnvironment();
  const child = spawn(program, words, { cwd, env: { ...environment, ...env } });
  const text = { stdout: "", stderr: "" };
  const looks = new Set<() => void>();
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (chunk) => {
      text[name] += String(chunk);
      for (const look of looks) look();
    });
  }
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, ...text }));
  return {
    child,
    printed: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const all = text.stdout + text.stderr;
          if (pattern.test(all)) resolve(all);
        };
        looks.add(look);
        look();
        ended.then(
          () => reject(new Error(`it ended and printed no ${pattern}:\n${text.stdout}${text.stderr}`)),
          reject,
        );
      }),
    ended: () => ended,
  };
}
