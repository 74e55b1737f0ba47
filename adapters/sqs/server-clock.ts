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
