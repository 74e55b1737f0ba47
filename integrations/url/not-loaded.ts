import { MessagingError } from "../../core/errors.ts";

/**
 * Why an adapter could not be imported: mostly its client is not installed. The packages are as npm takes them, in the
 * versions that belong together.
 */
export function notLoaded(where: string, packages: readonly string[], cause: unknown): MessagingError {
  const install = `npm install ${packages.join(" ")}`;
  const missing = packages.map(nameOf).find((name) => isMissing(name, cause));
  const problem =
    missing === undefined
      ? `could not load the client of the broker, as the cause says; the installation may be broken: ${install}`
      : `needs the package ${missing}, which is not installed: ${install}`;
  return new MessagingError("unsupported", `${where} ${problem}`, { cause });
}

/** Without the range of versions. */
function nameOf(packageInRange: string): string {
  return packageInRange.replace(/(?<=.)@.*$/, "");
}

/** Node.js names the package, or the file within it, in quotes. */
function isMissing(name: string, cause: unknown): boolean {
  if (!(cause instanceof Error) || !("code" in cause)) return false;
  if (cause.code !== "ERR_MODULE_NOT_FOUND" && cause.code !== "MODULE_NOT_FOUND") return false;
  return cause.message.includes(`'${name}'`) || cause.message.includes(`'${name}/`);
}
