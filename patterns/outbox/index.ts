export { createOutbox, type OutboxOptions } from "./create-outbox.ts";
export { type TransactionalHandler, transactional } from "./inbox.ts";
export type { InboxEvent, InboxEventSource } from "./inbox-events.ts";
export type { InboxCleanOptions, InboxOptions } from "./inbox-options.ts";
export {
  type InboxEnd,
  type InboxHandleOptions,
  type InboxMessage,
  type InboxStore,
  LONGEST_INBOX_TEXT,
} from "./inbox-store.ts";
export type { OutboxHeaders } from "./messages.ts";
export type { Outbox, OutboxPublishOptions, OutboxSendOptions } from "./outbox.ts";
export { createRelay, type Relay, type RelayDrainOptions, type RelayStatus, type RelayStopOptions } from "./relay.ts";
export type { RelayEvent, RelayRowEvent, RelayStall, RelayStallCause, RelayStoreCall } from "./relay-events.ts";
export type { RelayCleanOptions, RelayOptions } from "./relay-options.ts";
export type {
  NewOutboxRow,
  OutboxClaim,
  OutboxClaimRequest,
  OutboxError,
  OutboxHealth,
  OutboxRow,
  OutboxSettlement,
  OutboxStall,
  OutboxStore,
  QuarantinedRow,
} from "./store.ts";
