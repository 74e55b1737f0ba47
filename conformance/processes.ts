import type { CaseContext } from "./context.ts";
import type { ProcessAdapter } from "./harness.ts";
import { supports } from "./refusals.ts";

/**
 * How workers in processes of their own reach the broker. Undefined where there is no such way, and then the case has
 * ended: refused if the adapter declares that its messages live and die with the process, not run otherwise.
 */
export async function processesOrEnd(context: CaseContext): Promise<ProcessAdapter | undefined> {
  if (context.harness.processes !== undefined) return context.harness.processes;
  if (await supports(context, "durable"))
    context.notRun("the harness gives no way to make an adapter in another process");
  return undefined;
}
