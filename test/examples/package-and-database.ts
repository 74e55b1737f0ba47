import { afterAll, beforeAll } from "vitest";
import type { Database, RunningPostgres } from "../brokers/postgres.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";

/** The built package and a database of their own for the tests of the enclosing `describe`, removed after them. */
export function usePackageAndDatabase(
  postgres: RunningPostgres,
): () => { readonly folder: string; readonly url: string } {
  let built: BuiltPackage | undefined;
  let place: Database | undefined;
  beforeAll(async () => {
    built = await buildPackage(["examples"]);
    place = await postgres.newDatabase();
  });
  afterAll(async () => {
    built?.remove();
    await place?.remove();
  });
  return () => {
    if (built === undefined || place === undefined)
      throw new Error("they are made before the first test, and not earlier");
    return { folder: built.folder, url: place.url };
  };
}
