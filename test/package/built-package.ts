import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject } from "vitest";
import { askForPackage } from "../brokers/broker-desk.ts";
// Types of what the global set-up provides.
import type {} from "../brokers/global-setup.ts";
import { ROOT } from "./compile-package.ts";

export { developmentEnvironment, ROOT } from "./compile-package.ts";

/** A folder that is what the package is after its build, apart from the working tree, so that tests may run at once. */
export interface BuiltPackage {
  readonly folder: string;
  remove(): void;
}

/** Puts the package, compiled once per run, into a temporary folder, with the given other parts of the repository beside it. */
export async function buildPackage(parts: readonly string[] = []): Promise<BuiltPackage> {
  const compiled = await askForPackage(inject("brokerDesk"));
  const folder = mkdtempSync(join(tmpdir(), "anybroker-package-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    for (const part of ["package.json", ...parts]) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
    cpSync(compiled, join(folder, "dist"), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  } catch (error) {
    remove();
    throw error;
  }
  return { folder, remove };
}
