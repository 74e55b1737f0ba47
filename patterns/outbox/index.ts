export {
  createOutbox,
  type Outbox,
  type OutboxHeaders,
  type OutboxOptions,
  type OutboxPublishOptions,
  type OutboxSendOptions,
} from "./create-outbox.ts";
export {
  type InboxCleanOptions,
  type InboxEvent,
  type InboxEventSource,
  type InboxOptions,
  type TransactionalHandler,
  transactional,
} from "./inbox.ts";
export {
  type InboxEnd,
  type InboxHandleOptions,
  type InboxMessage,
  type InboxStore,
  LONGEST_INBOX_TEXT,
} from "./inbox-store.ts";
export { createRelay, type Relay, type RelayDrainOptions, type RelayStatus, type RelayStopOptions } from "./relay.ts";
export type {
  RelayCleanOptions,
  RelayEvent,
  RelayOptions,
  RelayRowEvent,
  RelayStall,
  RelayStallCause,
  RelayStoreCall,
} from "./relay-options.ts";
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
