#!/usr/bin/env node
import { EXIT } from "./exit-codes.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const LEAST_VERSION = [22, 12] as const;
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < LEAST_VERSION[0] || (major === LEAST_VERSION[0] && minor < LEAST_VERSION[1])) {
  const needed = `anybroker needs Node.js ${LEAST_VERSION.join(".")} or later`;
  process.stderr.write(`${needed}, and this is ${process.versions.node}\n`);
  process.exit(EXIT.unavailable);
}
// An older Node.js cannot load or run these.
const { systemClock } = await import("../core/clock.ts");
const { run } = await import("./run.ts");

// Warnings of the runtime, such as that SQLite is experimental, are not for the user of a command.
process.removeAllListeners("warning");
if (process.argv.includes("--verbose")) {
  process.on("warning", (warning) => {
    // kafkajs sets negative timeouts.
    if (warning.name !== "TimeoutNegativeWarning") process.stderr.write(`${warning.stack ?? warning}\n`);
  });
}

// With the in-process broker, nothing else keeps the process alive while a command waits for messages.
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

// Open resources of a configuration, such as a pool, must not keep the process alive.
for (const stream of [process.stdout, process.stderr]) {
  if (!stream.destroyed) await new Promise((resolve) => stream.write("", resolve));
}
process.exit(code);
