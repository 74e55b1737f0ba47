import type { SQSClient } from "@aws-sdk/client-sqs";

/** Plausible times of a server. The time of a signature has a year of four digits. */
const EARLIEST_MS = Date.UTC(2000);
const LATEST_MS = Date.UTC(2200);

/**
 * Keeps the clock offset of the SDK plausible. The SDK takes it from the `Date` header of every answer, and from the
 * time in a refusal. A wild offset makes all later signatures fail, and then no answer can correct it.
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
    // Checked again at each read, because this machine's clock may have been set.
    get: () => bounded(offset),
    set: (given: unknown) => {
      offset = bounded(given);
    },
  });
}

/** AWS refuses no signature for a smaller difference. */
const SKEW_MS = 60_000;

/**
 * Notes the server's time of a request that is signed now. The returned function tells whether that time was wrong, by
 * the clock offset known since. After a sleep of the machine, its clock and signatures from before are wrong.
 */
export function signedNow({ config }: { readonly config: SQSClient["config"] }): () => boolean {
  const serverTime = (): number => Date.now() + (config.systemClockOffset ?? 0);
  const signedAt = serverTime();
  return () => Math.abs(serverTime() - signedAt) >= SKEW_MS;
}
