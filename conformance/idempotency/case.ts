import type { StoreCase as AnyStoreCase } from "../stores/suite.ts";
import type { StoreHarness } from "./harness.ts";

/** One guarantee of `IdempotencyStore`, tested on one store. */
export type StoreCase = AnyStoreCase<StoreHarness>;
