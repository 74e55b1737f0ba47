import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";

/** The group knows this member, or this generation of it, no more. */
const FENCED: ReadonlySet<string> = new Set(["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"]);

/** The same commit would be refused again, however often it is tried. */
const UNCOMMITTABLE: ReadonlySet<string> = new Set([
  "OFFSET_METADATA_TOO_LARGE",
  "INVALID_COMMIT_OFFSET_SIZE",
  "GROUP_AUTHORIZATION_FAILED",
  "TOPIC_AUTHORIZATION_FAILED",
  "UNKNOWN_TOPIC_OR_PARTITION",
]);

/** What time alone does not mend: the code, and what to do. */
const REFUSALS: Readonly<Record<string, readonly [MessagingErrorCode, string]>> = {
  GROUP_AUTHORIZATION_FAILED: ["unauthorized", "grant the right to read the group"],
  TOPIC_AUTHORIZATION_FAILED: ["unauthorized", "grant the right to read and describe the topic"],
  INVALID_SESSION_TIMEOUT: [
    "invalid",
    "choose a session timeout between the server's group.min.session.timeout.ms and group.max.session.timeout.ms",
  ],
  INVALID_GROUP_ID: ["invalid", "choose another name"],
  GROUP_MAX_SIZE_REACHED: ["conflict", "the group is full; raise the server's group.max.size or stop consumers"],
  UNKNOWN_TOPIC_OR_PARTITION: ["not-found", "create the topic; it is looked for again"],
  INVALID_TOPIC_EXCEPTION: ["invalid", "choose a name that Kafka allows"],
  OFFSET_METADATA_TOO_LARGE: ["too-large", "raise the server's offset.metadata.max.bytes"],
  INVALID_COMMIT_OFFSET_SIZE: ["too-large", "raise the server's message.max.bytes for its offsets topic"],
};

/** Whether an answer says that the member is out of its group, or of the generation that it asked in. */
export function isFenced(name: string): boolean {
  return FENCED.has(name);
}

/** Whether an answer to a commit stays the same when it is tried again at once. */
export function isUncommittable(name: string): boolean {
  return UNCOMMITTABLE.has(name);
}

/** Whether only people can mend it, so that trying again may be slow. */
export function isRefusal(error: MessagingError): boolean {
  return error.code !== "unreachable" && error.code !== "timeout";
}

/** An error that Kafka answered with. `what` completes "Kafka could not …". */
export function answerError(name: string, what: string): MessagingError {
  const [code, next] = REFUSALS[name] ?? ["unreachable", "trying again"];
  return new MessagingError(code, `Kafka could not ${what} (${name}); ${next}`);
}

/** The coordinator repeats to a member something else than was said. `what` names it. */
export function misled(group: string, what: string): MessagingError {
  return new MessagingError(
    "unreachable",
    `the coordinator of group ${group} does not repeat what ${what}: partitions may be with nobody; joining again. If it lasts, see what stands between this process and Kafka`,
  );
}

/** Whatever a request rejected with, as our own. */
export function requestError(error: unknown, what: string): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", `Kafka could not be asked to ${what}; trying again`, { cause: error });
}
