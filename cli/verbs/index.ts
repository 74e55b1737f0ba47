import type { Verb } from "../verb.ts";
import { asyncapi } from "./asyncapi.ts";
import { bridge } from "./bridge.ts";
import { dlqDiscard } from "./dlq-discard.ts";
import { dlqEdit } from "./dlq-edit.ts";
import { dlqGroups } from "./dlq-groups.ts";
import { dlqLs } from "./dlq-ls.ts";
import { dlqReplay } from "./dlq-replay.ts";
import { dlqReport } from "./dlq-report.ts";
import { dlqShow } from "./dlq-show.ts";
import { doctor } from "./doctor.ts";
import { migrateAdvance } from "./migrate-advance.ts";
import { migrateReport } from "./migrate-report.ts";
import { migrateRollback } from "./migrate-rollback.ts";
import { migrateStatus } from "./migrate-status.ts";
import { outboxPrune } from "./outbox-prune.ts";
import { outboxRetry } from "./outbox-retry.ts";
import { outboxStatus } from "./outbox-status.ts";
import { publish } from "./publish.ts";
import { send } from "./send.ts";
import { tail } from "./tail.ts";
import { top } from "./top.ts";
import { topologyCreate } from "./topology-create.ts";
import { topologyDiff } from "./topology-diff.ts";
import { topologyShow } from "./topology-show.ts";
import { topologyVerify } from "./topology-verify.ts";

/** The groups of commands. */
export const GROUPS: Readonly<Record<string, string>> = Object.freeze({
  topology: "Queues and topics on the broker: show, create, verify, diff",
  dlq: "Dead letters: list, group, show, replay, discard, edit, report",
  migrate: "A migration to another broker: status, advance, rollback, report",
  outbox: "Outboxes: status, retry, prune",
});

/** Every command, in the order of the help. */
export const VERBS: readonly Verb[] = [
  doctor,
  topologyShow,
  topologyCreate,
  topologyVerify,
  topologyDiff,
  top,
  send,
  publish,
  tail,
  dlqLs,
  dlqGroups,
  dlqShow,
  dlqReplay,
  dlqDiscard,
  dlqEdit,
  dlqReport,
  outboxStatus,
  outboxRetry,
  outboxPrune,
  bridge,
  migrateStatus,
  migrateAdvance,
  migrateRollback,
  migrateReport,
  asyncapi,
];
