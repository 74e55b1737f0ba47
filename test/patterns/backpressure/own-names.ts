import { afterAll, beforeAll } from "vitest";

interface OwnNames {
  readonly namePrefix: string;
  remove(): Promise<void>;
}

/** Names for the tests of the enclosing `describe`, removed after them. */
export function useNames(newNamespace: () => OwnNames): () => OwnNames {
  let names: OwnNames | undefined;
  beforeAll(() => {
    names = newNamespace();
  });
  afterAll(() => names?.remove());
  return () => {
    if (names === undefined) throw new Error("the names are made before the first test, and not earlier");
    return names;
  };
}
