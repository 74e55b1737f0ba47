import type { CaseContext } from "./context.ts";

/** The names of everything that stands on the broker; undefined where the harness cannot tell, which is noted. */
export async function standing(context: CaseContext): Promise<ReadonlySet<string> | undefined> {
  const names = await context.harness.standing?.();
  return names === undefined ? undefined : new Set(names);
}

/** Waits until nothing stands on the broker that did not stand before. */
export async function nothingNewStands(context: CaseContext, before: ReadonlySet<string> | undefined): Promise<void> {
  if (before === undefined) return;
  let added: readonly string[] = [];
  const gone = async (): Promise<boolean> => {
    added = [...((await standing(context)) ?? [])].filter((name) => !before.has(name));
    return added.length === 0;
  };
  try {
    await context.until("nothing more to stand on the broker than before", gone);
  } catch (cause) {
    throw new Error(`left behind on the broker: ${added.join(", ")}`, { cause });
  }
}
