import type { CaseContext } from "./context.ts";

/** The names of everything that exists on the broker; undefined where the harness cannot tell, which is noted. */
export async function existing(context: CaseContext): Promise<ReadonlySet<string> | undefined> {
  const names = await context.harness.existing?.();
  return names === undefined ? undefined : new Set(names);
}

/** Waits until nothing exists on the broker that did not exist before. */
export async function nothingNewExists(context: CaseContext, before: ReadonlySet<string> | undefined): Promise<void> {
  if (before === undefined) return;
  let added: readonly string[] = [];
  const gone = async (): Promise<boolean> => {
    added = [...((await existing(context)) ?? [])].filter((name) => !before.has(name));
    return added.length === 0;
  };
  try {
    await context.until("nothing more to exist on the broker than before", gone);
  } catch (cause) {
    throw new Error(`left behind on the broker: ${added.join(", ")}`, { cause });
  }
}
