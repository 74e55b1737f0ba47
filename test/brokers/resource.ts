import { rm } from "node:fs/promises";
import { removeContainers } from "./container-engine.ts";
import { endProcesses } from "./native-process.ts";

/** Something outside of this process that must not outlive the run. */
export type Resource =
  | { readonly kind: "containers"; readonly runId: string }
  | { readonly kind: "processes"; readonly folder: string };

/** Ends it and removes what it kept; does nothing if it is gone already. */
export async function release(resource: Resource): Promise<void> {
  if (resource.kind === "containers") return removeContainers(resource.runId);
  await endProcesses(resource.folder);
  await rm(resource.folder, { recursive: true, force: true, maxRetries: 5 });
}
