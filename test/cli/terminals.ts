import { spawnSync } from "node:child_process";
import { type Installed, type Started, started } from "./installed.ts";

/** What a terminal makes Ctrl-C of. */
export const CTRL_C = "\u0003";
/** A screen that was drawn four times. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: this is how a terminal is told to begin anew
export const FOUR_SCREENS = /(\u001b\[H.*){4}/s;

/**
 * Whether there is `script` of util-linux, which gives a command a terminal of its own. On a machine of the pipeline it
 * is taken for granted, so that its tests fail rather than being left out.
 */
export function hasTerminals(): boolean {
  return process.env.CI !== undefined || /util-linux/.test(String(spawnSync("script", ["--version"]).stdout));
}

/** Types at a terminal. */
export function type({ child }: Started, keys: string): void {
  child.stdin.write(keys);
}

/** Runs a command line of the command in a terminal of 120 columns, or of `COLUMNS`. */
export function startInTerminal(
  anybroker: Installed,
  line: string,
  env: Readonly<Record<string, string>> = {},
): Started {
  const command = `stty cols ${env.COLUMNS ?? 120} rows 40; exec ${anybroker.shell} ${line}`;
  return started("script", ["-qefc", command, "/dev/null"], anybroker.folder, { TERM: "xterm", ...env });
}
