import { spawn } from "node:child_process";
import { once } from "node:events";
import { developmentEnvironment } from "../package/built-package.ts";

const LONGEST_RUN_MS = 900_000;

export interface ExampleRun {
  /** Resolves when a line that matches has been printed; rejects if the process ends without one. */
  printed(pattern: RegExp): Promise<void>;
  /** Resolves when the process has ended. */
  ended(): Promise<{ readonly code: number | null; readonly output: string }>;
}

/** Starts an example in a folder that holds the built package, with these additions to the environment only. */
export function startExample(folder: string, example: string, more: NodeJS.ProcessEnv): ExampleRun {
  return startProgram(folder, `examples/${example}/main.ts`, more);
}

/** Starts a program of such a folder, likewise. */
export function startProgram(folder: string, file: string, more: NodeJS.ProcessEnv): ExampleRun {
  const { BROKER_URL: _broker, POSTGRES_URL: _postgres, ...environment } = developmentEnvironment();
  const child = spawn("node", [file], {
    cwd: folder,
    env: { ...environment, ...more },
    stdio: ["ignore", "pipe", "pipe"],
    // One that never ends has failed its test long before.
    timeout: LONGEST_RUN_MS,
    killSignal: "SIGKILL",
  });
  let output = "";
  let look = (): void => {};
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += String(chunk);
      look();
    });
  }
  const closed = once(child, "close").then(([code]) => ({ code: code as number | null, output }));
  return {
    printed: (pattern) =>
      new Promise((resolve, reject) => {
        look = () => {
          if (pattern.test(output)) resolve();
        };
        look();
        closed.then(() => reject(new Error(`the process ended and printed no ${pattern}:\n${output}`)), reject);
      }),
    ended: () => closed,
  };
}
