import type { StoreCase as AnyStoreCase } from "../stores/suite.ts";
import type { StoreHarness } from "./harness.ts";

/** A promise of `IdempotencyStore`, put to the test on one store. */
export type StoreCase = AnyStoreCase<StoreHarness>;
