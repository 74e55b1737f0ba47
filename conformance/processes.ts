import type { CaseContext } from "./context.ts";
import type { ProcessAdapter } from "./harness.ts";
import { supports } from "./refusals.ts";

/**
 * How worker processes reach the broker. If undefined, the case has ended: as refused if the adapter is not durable, and
 * else as not run.
 */
export async function processesOrEnd(context: CaseContext): Promise<ProcessAdapter | undefined> {
  if (context.harness.processes !== undefined) return context.harness.processes;
  if (await supports(context, "durable")) context.notRun("the harness has no `processes`");
  return undefined;
}
