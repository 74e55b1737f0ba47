import { DECLARE_IT, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { oneLine } from "../../core/foreign.ts";
import type { ErrorName } from "./port.ts";

/** Errors of partitions and groups that pass when asked again, as during a leader change or a start. */
const PASSING: ReadonlySet<string> = new Set([
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "NOT_LEADER_OR_FOLLOWER",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "OFFSET_NOT_AVAILABLE",
  "KAFKA_STORAGE_ERROR",
  "REQUEST_TIMED_OUT",
  "NETWORK_EXCEPTION",
  "REPLICA_NOT_AVAILABLE",
  "BROKER_NOT_AVAILABLE",
  "NOT_CONTROLLER",
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "GROUP_LOAD_IN_PROGRESS",
  "COORDINATOR_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
  "NOT_COORDINATOR",
  "UNSTABLE_OFFSET_COMMIT",
  "THROTTLING_QUOTA_EXCEEDED",
]);

/** A controller's refusal of a new topic while no broker can hold it, as during a start or stop. */
const NO_BROKER_NOW = /brokers are currently fenced|only 0 broker\(s\) are registered/;

/** Whether asking again may succeed. `said` is the server's explanation, if there is one. */
export function isPassing(error: ErrorName, said?: string | undefined): boolean {
  if (error === "INVALID_REPLICATION_FACTOR") return said !== undefined && NO_BROKER_NOW.test(said);
  return error !== undefined && PASSING.has(error);
}

const MISSING: ReadonlySet<string> = new Set([
  "UNKNOWN_TOPIC_OR_PARTITION",
  "UNKNOWN_TOPIC_ID",
  // The name belongs to another topic.
  "INCONSISTENT_TOPIC_ID",
]);

/** Whether the topic or partition does not exist, or is not yet known to that broker. */
export function isMissing(error: ErrorName): boolean {
  return error !== undefined && MISSING.has(error);
}

/** Of what a server says in words. */
const MAX_SENTENCE = 1_000;

/**
 * Converts a protocol error. `what` completes "Kafka refused to …" and names the topic or group. `next` is the advice
 * for errors without one.
 */
export function operationError(error: string, what: string, next: string, said?: string | undefined): MessagingError {
  const reason = said === undefined || said === "" ? error : `${error}: ${oneLine(said, MAX_SENTENCE)}`;
  if (isMissing(error)) {
    return new MessagingError("not-found", `Kafka could not ${what}: it has no such topic (${error}); ${DECLARE_IT}`);
  }
  if (error.endsWith("_AUTHORIZATION_FAILED") || error.endsWith("_AUTHENTICATION_FAILED")) {
    const help = error.endsWith("_AUTHENTICATION_FAILED")
      ? "check the login"
      : `grant the user ${rightFor(error, what)}`;
    return new MessagingError("unauthorized", `Kafka refused to ${what} (${reason}); ${help}`);
  }
  return new MessagingError(codeOf(error, said), `Kafka could not ${what} (${reason}); ${next}`);
}

const OPERATIONS: readonly (readonly [what: RegExp, right: string])[] = [
  [/^write /, "Write"],
  [/^create /, "Create"],
  [/^describe the configuration /, "DescribeConfigs"],
  [/^delete /, "Delete"],
  [/^(read|fetch records|commit|join) /, "Read"],
  [/^get an identity /, "IdempotentWrite"],
];

/** The right that something takes, as Kafka's ACLs name it. */
function rightFor(error: string, what: string): string {
  const of = error.startsWith("GROUP_") ? "the group" : error.startsWith("TOPIC_") ? "the topic" : "the cluster";
  const right = OPERATIONS.find(([pattern]) => pattern.test(what))?.[1] ?? "Describe";
  return `${right} on ${of}`;
}

function codeOf(error: string, said: string | undefined): MessagingErrorCode {
  if (isPassing(error, said)) return "unreachable";
  switch (error) {
    case "INVALID_TOPIC_EXCEPTION":
    case "INVALID_TOPIC":
    case "INVALID_REPLICATION_FACTOR":
    case "INVALID_PARTITIONS":
    case "INVALID_CONFIG":
    case "INVALID_REPLICA_ASSIGNMENT":
    case "POLICY_VIOLATION":
    case "NON_EMPTY_GROUP":
    case "UNKNOWN_MEMBER_ID":
    case "REBALANCE_IN_PROGRESS":
    case "ILLEGAL_GENERATION":
      return "conflict";
    case "MESSAGE_TOO_LARGE":
    case "RECORD_LIST_TOO_LARGE":
      return "too-large";
    case "UNSUPPORTED_VERSION":
      return "unsupported";
    default:
      return "refused";
  }
}
