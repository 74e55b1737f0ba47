#!/usr/bin/env node
import { systemClock } from "../core/clock.ts";
import { run } from "./run.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

process.exitCode = await run(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  cwd: process.cwd(),
  clock: systemClock(),
  onInterrupt(interrupted) {
    for (const signal of SIGNALS) process.on(signal, interrupted);
    return () => {
      for (const signal of SIGNALS) process.off(signal, interrupted);
    };
  },
  exit: (code) => process.exit(code),
});
