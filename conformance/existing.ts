import type { CaseContext } from "./context.ts";

/** The names of everything on the broker; undefined if the harness has no `existing`. */
export async function existing(context: CaseContext): Promise<ReadonlySet<string> | undefined> {
  const names = await context.harness.existing?.();
  return names === undefined ? undefined : new Set(names);
}

/** Waits until everything on the broker existed before. */
export async function nothingNewExists(context: CaseContext, before: ReadonlySet<string> | undefined): Promise<void> {
  if (before === undefined) return;
  let added: readonly string[] = [];
  const gone = async (): Promise<boolean> => {
    added = [...((await existing(context)) ?? [])].filter((name) => !before.has(name));
    return added.length === 0;
  };
  try {
    await context.until("everything new on the broker to be removed", gone);
  } catch (cause) {
    throw new Error(`left behind on the broker: ${added.join(", ")}`, { cause });
  }
}
