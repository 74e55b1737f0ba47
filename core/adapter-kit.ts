/** `anybroker/adapter`: the contract of an adapter, what it is given, and what adapters and tools share. */
export * from "./adapter.ts";
export * from "./address.ts";
export * from "./capabilities.ts";
export { type Clock, type Random, systemClock, systemRandom, type Timer } from "./clock.ts";
export type { JsonCodecOptions } from "./codec.ts";
export type { HandlerResult } from "./delivery.ts";
export type { DestinationOptions, Tombstones } from "./destination.ts";
export { type BodyIssue, DECLARE_IT, type MessagingErrorOptions, type SendOutcome } from "./errors.ts";
export type { DeadLetterReason } from "./events.ts";
export type {
  PauseOptions,
  PrefetchOptions,
  PublishingOptions,
  QuarantineOptions,
  StartOptions,
  StopOptions,
} from "./options.ts";
export type { RetryDelay } from "./retry-policy.ts";
export { HEADER, SYSTEM_PREFIX } from "./system-headers.ts";
