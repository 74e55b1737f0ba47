import type { OpenStore } from "../../../../conformance/idempotency/index.ts";
import { openStore as openSound } from "../sqlite-database.ts";
import { keepsToItself, leasesNeverEnd } from "./broken-stores.ts";

const BREAKAGES = { keepsToItself, leasesNeverEnd };

export interface BrokenProcess {
  readonly file: string;
  readonly broken: keyof typeof BREAKAGES;
}

/** How a process of the suite opens a broken store, to see the suite notice. */
export function openStore({ file, broken }: BrokenProcess): OpenStore {
  const { store, close } = openSound(file);
  return { store: BREAKAGES[broken](store), close };
}
