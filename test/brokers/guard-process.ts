// The process behind guard.ts: waits for its parent to let go or to die, then releases the resource.
import { setTimeout as sleep } from "node:timers/promises";
import { type Resource, release } from "./resource.ts";

const resource: Resource = JSON.parse(process.argv[2] ?? "");

process.stdin.resume();
await new Promise((resolve) => process.stdin.once("close", resolve));
await release(resource);
// A request to make a container may have been under way when the parent died: look once more.
if (resource.kind === "containers") {
  await sleep(500);
  await release(resource);
}
