export type { HandlingFailure, PlannedFailure, SendFailure, SendFailureCode } from "./failures.ts";
export type { IdleOptions } from "./idle.ts";
export type { ConsumedMessage, DeadLetterRecord, RecordedMessage, SentMessage } from "./ledger.ts";
export { type TestBrokerOptions, type TestKit, testBroker } from "./test-broker.ts";
export type { TestClock } from "./test-clock.ts";
