import type { SQSClient } from "@aws-sdk/client-sqs";

/** What a signature can hold as its time, and what no clock of a server shows: the year has four digits. */
const EARLIEST_MS = Date.UTC(2000);
const LATEST_MS = Date.UTC(2200);

/**
 * Keeps the offset that the SDK adds to its clock credible. The SDK takes it from the `Date` header of every answer, and
 * from the time that a refusal names. A wild one makes every later signature fail, and then no answer can correct it.
 */
export function boundClockOffset({ config }: { readonly config: SQSClient["config"] }): void {
  let offset = 0;
  const isCredible = (one: number): boolean => {
    const now = Date.now() + one;
    return now >= EARLIEST_MS && now < LATEST_MS;
  };
  const bounded = (one: unknown): number => (typeof one === "number" && isCredible(one) ? one : 0);
  offset = bounded(config.systemClockOffset);
  Object.defineProperty(config, "systemClockOffset", {
    configurable: true,
    enumerable: true,
    // Asked again, since the clock of this machine may have been set meanwhile.
    get: () => bounded(offset),
    set: (given: unknown) => {
      offset = bounded(given);
    },
  });
}

/** A signature that is off by less is none that AWS refuses for its time. */
const SKEW_MS = 60_000;

/**
 * What time a server would have read in a request that is signed now, to be asked later by how much it was wrong: as far as
 * the answer, or another one meanwhile, told. The clock of a machine that slept is wrong until then, and so is a signature
 * that slept with it.
 */
export function signedNow({ config }: { readonly config: SQSClient["config"] }): () => boolean {
  const serverTime = (): number => Date.now() + (config.systemClockOffset ?? 0);
  const signedAt = serverTime();
  return () => Math.abs(serverTime() - signedAt) >= SKEW_MS;
}
