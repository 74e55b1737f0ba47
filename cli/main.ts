#!/usr/bin/env node
import { systemClock } from "../core/clock.ts";
import { run } from "./run.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

// What the runtime warns of, such as that SQLite is experimental, is not for those who use a command.
process.removeAllListeners("warning");
if (process.argv.includes("--verbose")) {
  process.on("warning", (warning) => {
    // kafkajs sets a timer into the past whenever it asks for something.
    if (warning.name !== "TimeoutNegativeWarning") process.stderr.write(`${warning.stack ?? warning}\n`);
  });
}

// What waits for a message has nothing else that keeps the process alive, where the broker is in it.
setInterval(() => {}, 2 ** 30);

const code = await run(process.argv.slice(2), {
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
  exit: (status) => process.exit(status),
});

// What a configuration left open, such as a pool, must not keep the command from ending.
for (const stream of [process.stdout, process.stderr]) {
  if (!stream.destroyed) await new Promise((resolve) => stream.write("", resolve));
}
process.exit(code);
