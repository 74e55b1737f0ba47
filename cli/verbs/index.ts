import type { Verb } from "../verb.ts";
import { asyncapi } from "./asyncapi.ts";
import { bridge } from "./bridge.ts";
import { dlqEdit } from "./dlq-edit.ts";
import { dlqGroups, dlqLs, dlqShow } from "./dlq-read.ts";
import { dlqDiscard, dlqReplay } from "./dlq-replay.ts";
import { dlqReport } from "./dlq-report.ts";
import { doctor } from "./doctor.ts";
import { migrateAdvance, migrateReport, migrateRollback, migrateStatus } from "./migrate.ts";
import { outboxPrune, outboxRetry, outboxStatus } from "./outbox.ts";
import { publish, send } from "./send.ts";
import { tail } from "./tail.ts";
import { top } from "./top.ts";
import { topologyCreate, topologyDiff, topologyShow, topologyVerify } from "./topology.ts";
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
