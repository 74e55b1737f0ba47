import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect } from "vitest";
import { developmentEnvironment } from "../package/built-package.ts";

export interface FlashSaleRun {
  /** Resolves when a line that matches has been printed; rejects if the process ends without one. */
  printed(pattern: RegExp): Promise<void>;
  /** Resolves when the process has ended. */
  ended(): Promise<{ readonly code: number | null; readonly output: string }>;
}

/** Starts the example in a folder that holds the built package. */
export function startFlashSale(folder: string, more: NodeJS.ProcessEnv): FlashSaleRun {
  const { BROKER_URL: _, ...environment } = developmentEnvironment();
  const child = spawn("node", ["examples/flash-sale/main.ts"], {
    cwd: folder,
    env: { ...environment, ...more },
    stdio: ["ignore", "pipe", "pipe"],
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

interface Row {
  readonly given: number;
  readonly handled: number;
  readonly deadLettered: number;
  readonly lost: number;
  readonly duplicates: number;
}

function row(output: string, role: string): Row {
  const line = output.split("\n").findLast((text) => text.trim().startsWith(`${role} `));
  const [given, handled, deadLettered, lost, duplicates] = (line?.trim().split(/\s+/).slice(1) ?? []).map(Number);
  expect(duplicates, `a ledger line of ${role} in:\n${output}`).toBeTypeOf("number");
  return { given, handled, deadLettered, lost, duplicates } as Row;
}

/** What the closing ledger has to say, whatever happened on the way. */
export function expectNothingLost(output: string, orders: number): void {
  expect(output).toContain(`accepted ${orders}, not accepted 0, lost 0`);
  // Exactly the poison; a copy of it more is possible only if a worker died between its copy and its ack.
  expect(row(output, "orders")).toMatchObject({ given: orders, handled: orders - 1, deadLettered: 1, lost: 0 });
  for (const role of ["billing", "warehouse"]) {
    expect(row(output, role)).toMatchObject({ given: orders - 1, handled: orders - 1, deadLettered: 0, lost: 0 });
  }
}
