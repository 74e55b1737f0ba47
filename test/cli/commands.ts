import { PassThrough, Writable } from "node:stream";
import { systemClock } from "anybroker/adapter";
import { expect } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { run } from "../../cli/run.ts";
import { VERBS } from "../../cli/verbs/index.ts";

/** What a command printed, and how it ended. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Its one result, of the shape that the command documents. */
  readonly json: Readonly<Record<string, unknown>>;
}

/** The world of a command under test. */
export interface CommandWorld {
  readonly configuration?: Configuration;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: string;
  /** Whether everything is a terminal. */
  readonly terminal?: boolean;
  /** What is typed at it. */
  readonly answer?: string;
  /** How much faster its clock runs. */
  readonly faster?: number;
  /** Told before it begins how to interrupt it. */
  readonly begins?: (interrupt: () => void) => void;
  /** In place of the end of the process. */
  readonly exit?: (code: number) => void;
  /** Told what was printed, whenever something is; may interrupt. */
  readonly watch?: (printed: string, interrupt: () => void) => void;
}

/** A stream that keeps what is written to it. */
class Kept extends Writable {
  readonly columns = 200;
  readonly isTTY: boolean;
  readonly #told: (text: string) => void;
  text = "";

  constructor(isTTY: boolean, told: (text: string) => void) {
    super();
    this.isTTY = isTTY;
    this.#told = told;
  }

  override _write(chunk: unknown, _: string, done: () => void): void {
    this.text += String(chunk);
    this.#told(this.text);
    done();
  }
}

/** Runs a command line in this process. With `--json` the result is held against what the command documents. */
export async function command(line: readonly string[], world: CommandWorld = {}): Promise<CommandResult> {
  const { configuration, env = {}, cwd = "/nonexistent", terminal = false, watch = () => {} } = world;
  const { faster = 1 } = world;
  const clock = systemClock();
  const listeners = new Set<() => void>();
  const interrupt = (): void => {
    for (const listener of listeners) listener();
  };
  world.begins?.(interrupt);
  const stdin = Object.assign(new PassThrough(), { isTTY: terminal });
  const typed = world.stdin ?? world.answer;
  if (typed !== undefined) stdin.end(typed);
  const tell = (text: string): void => watch(text, interrupt);
  const [stdout, stderr] = [new Kept(terminal, tell), new Kept(terminal, tell)];
  const code = await run(line, {
    stdin,
    stdout,
    stderr,
    env,
    cwd,
    clock: { ...clock, schedule: (run, ms) => clock.schedule(run, ms / faster) },
    onInterrupt(interrupted) {
      listeners.add(interrupted);
      return () => listeners.delete(interrupted);
    },
    exit: (exited) => {
      if (world.exit === undefined) throw new Error(`the process would end with ${exited}`);
      world.exit(exited);
    },
    ...(configuration === undefined ? {} : { configuration }),
  });
  expect(listeners.size, "still listening to Ctrl-C").toBe(0);
  const printed = { code, stdout: stdout.text, stderr: stderr.text };
  return {
    ...printed,
    get json() {
      return resultOf(printed);
    },
  };
}

/** The one JSON result on stdout, held against what its command documents. */
function resultOf({ stdout, stderr }: { stdout: string; stderr: string }): Readonly<Record<string, unknown>> {
  const lines = stdout.trimEnd().split("\n");
  expect(lines.length, `one line of JSON, and no ${stdout}${stderr}`).toBe(1);
  return documented(lines[0] ?? "");
}

/** A line of JSON, held against what its command documents. */
export function documented(line: string): Readonly<Record<string, unknown>> {
  let result: Readonly<Record<string, unknown>>;
  try {
    result = JSON.parse(line) as Readonly<Record<string, unknown>>;
  } catch {
    throw new Error(`no JSON: ${line}`);
  }
  const { verb, ...fields } = result;
  const definition = VERBS.find(({ name }) => name === verb);
  expect(definition, `the command ${String(verb)}`).toBeDefined();
  expect(Object.keys(fields).sort(), `the fields of ${String(verb)}`).toEqual(
    Object.keys(definition?.json ?? {}).sort(),
  );
  return result;
}

/** The error that a command with `--json` told. */
export function errorOf({ stderr }: CommandResult): Readonly<Record<string, unknown>> {
  const line = stderr.trimEnd().split("\n").at(-1) ?? "";
  return (JSON.parse(line) as { error: Readonly<Record<string, unknown>> }).error;
}
