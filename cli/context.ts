import type { Readable, Writable } from "node:stream";
import type { Clock } from "../core/clock.ts";
import type { Configuration } from "./configuration.ts";

/** Where a command writes to. */
export interface Output extends Writable {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Where a command reads from. */
export interface Input extends Readable {
  readonly isTTY?: boolean;
}

/** What a command has of the world around it; tests give their own. */
export interface Context {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where files are looked for that are not named by a full path. */
  readonly cwd: string;
  readonly clock: Clock;
  /** Calls for each Ctrl-C, or SIGTERM, until the result is called. */
  onInterrupt(interrupted: () => void): () => void;
  /** Ends the process at once. */
  exit(code: number): void;
  /** In place of the configuration file. */
  readonly configuration?: Configuration;
}
