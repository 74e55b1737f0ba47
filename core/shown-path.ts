const MOST_PARTS = 12;
const LONGEST_PART = 60;
const MOST_INDEX = 999_999;
/** What a property of code is called. Keys that are data (addresses, ids, sentences) are mostly called otherwise. */
const PLAIN_NAME = /^[A-Za-z_$][A-Za-z0-9_$-]{0,39}$/;

/**
 * A path into a body, for people and logs. A key of a record may be data: it is shown where it is among the `names` of a
 * schema, or, where there are none, if it is called as a property of code is; else `[key]` stands for it.
 */
export function shownPath(parts: readonly unknown[], names?: ReadonlySet<string>): (string | number)[] {
  const shown = parts.slice(0, MOST_PARTS).map((part) => shownPart(part, names));
  return parts.length > MOST_PARTS ? [...shown, "…"] : shown;
}

function shownPart(part: unknown, names: ReadonlySet<string> | undefined): string | number {
  if (typeof part === "number" && Number.isInteger(part) && part >= 0 && part <= MOST_INDEX) return part;
  return typeof part === "string" && isShownKey(part, names) ? part.replace(/[^\x21-\x7e]/g, "?") : "[key]";
}

/** Whether a key is shown as it is. */
export function isShownKey(key: string, names: ReadonlySet<string> | undefined): boolean {
  if (key.length > LONGEST_PART) return false;
  return names === undefined ? PLAIN_NAME.test(key) : names.has(key);
}
