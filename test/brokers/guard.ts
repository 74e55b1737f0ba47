import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type Resource, release } from "./resource.ts";

/** Sees to it that a resource is released when it is asked to, or when this process is gone, whatever ended it. */
export interface Guard {
  /** Releases the resource; resolves when it is gone. A second call does nothing. */
  release(): Promise<void>;
}

/**
 * Starts a guard: a process in a group of its own (so that Ctrl-C passes it by) which waits for the end of its standard
 * input. The system closes that pipe when this process ends, even by SIGKILL. Start it before the resource is made.
 */
export function guard(resource: Resource): Guard {
  const script = fileURLToPath(new URL("guard-process.ts", import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [script, JSON.stringify(resource)], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  const ended = once(child, "exit").then(
    ([code]) => code === 0,
    () => false,
  );
  child.unref();
  if (child.stdin && "unref" in child.stdin && typeof child.stdin.unref === "function") child.stdin.unref();
  let released: Promise<void> | undefined;
  return {
    release: () => {
      released ??= (async () => {
        child.ref();
        child.stdin?.end();
        // The guard itself may have been ended by someone: then the work is still to be done.
        if (!(await ended)) await release(resource);
      })();
      return released;
    },
  };
}
