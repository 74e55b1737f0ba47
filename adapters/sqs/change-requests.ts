import { ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, type SQSClient } from "@aws-sdk/client-sqs";
import type { MessagingError } from "../../core/errors.ts";
import {
  asMessagingError,
  entryError,
  errorName,
  isGone,
  isMissing,
  isRefusal,
  isUnanswered,
  isUnauthorized,
} from "./errors.ts";

/** A receipt, and for how many seconds the message is to be invisible from now on; none to delete it. */
export interface Change {
  readonly receipt: string;
  readonly visibilitySeconds?: number;
  /** From when on it does itself what it asks for, in milliseconds since 1970; undefined if it never does. */
  readonly until?: number;
}

/**
 * - `done`: SQS did it.
 * - `gone`: SQS said that the message is not ours any more.
 * - `again`: SQS did not say, or cannot for the moment; the next try may well do it.
 * - `refused`: SQS refuses it, for a reason that lasts and has nothing to do with whose the message is.
 */
export type ChangeAnswer =
  | { readonly kind: "done" }
  | { readonly kind: "gone" }
  | {
      readonly kind: "again" | "refused";
      readonly error: MessagingError;
      /** Whether that was said of the request, and not of this change alone. */
      readonly whole: boolean;
    };

const DONE: ChangeAnswer = Object.freeze({ kind: "done" });
const GONE: ChangeAnswer = Object.freeze({ kind: "gone" });

/** What a request needs of its queue. */
export interface ChangeTarget {
  readonly client: SQSClient;
  readonly url: string;
  /** Names the source in messages to people. */
  readonly where: string;
  /** SQS did not take a request. */
  unanswered(cause: unknown): void;
  /** The queue is gone. */
  missing(): void;
}

/** Asks for changes of one sort, ten at most, and has an answer for each, in order. Never rejects. */
export async function requestChanges(
  target: ChangeTarget,
  changes: readonly Change[],
): Promise<readonly ChangeAnswer[]> {
  const deletes = changes[0]?.visibilitySeconds === undefined;
  const what = `${deletes ? "deleting" : "changing the visibility of"} messages of ${target.where}`;
  try {
    const { Successful = [], Failed = [] } = await send(target, changes, deletes);
    const answers = new Map<string | undefined, ChangeAnswer>();
    for (const { Id } of Successful) answers.set(Id, DONE);
    for (const { Id, Code = "", SenderFault = false, Message = "" } of Failed) {
      answers.set(Id, entryAnswer(what, Code, SenderFault, Message));
    }
    return changes.map((_, index) => answers.get(String(index)) ?? entryAnswer(what, "NotMentioned", false, ""));
  } catch (error) {
    if (isGone(errorName(error), String((error as Error | null)?.message ?? ""))) {
      if (changes.length === 1) return [GONE];
      // One of them, and SQS does not say which.
      return (await Promise.all(changes.map((change) => requestChanges(target, [change])))).flat();
    }
    if (isUnanswered(error)) target.unanswered(error);
    const kind = isRefusal(error) || isUnauthorized(error) ? "refused" : "again";
    const answer: ChangeAnswer = { kind, error: asMessagingError(what, error), whole: true };
    if (isMissing(error)) target.missing();
    return changes.map(() => answer);
  }
}

function send({ client, url }: ChangeTarget, changes: readonly Change[], deletes: boolean) {
  const entry = ({ receipt }: Change, index: number) => ({ Id: String(index), ReceiptHandle: receipt });
  if (deletes) return client.send(new DeleteMessageBatchCommand({ QueueUrl: url, Entries: changes.map(entry) }));
  const Entries = changes.map((change, index) => ({
    ...entry(change, index),
    VisibilityTimeout: change.visibilitySeconds ?? 0,
  }));
  return client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: url, Entries }));
}

function entryAnswer(what: string, code: string, senderFault: boolean, message: string): ChangeAnswer {
  if (isGone(code, message)) return GONE;
  const cause = entryError(code, senderFault, message);
  const kind = isRefusal(cause) || isUnauthorized(cause) ? "refused" : "again";
  return { kind, error: asMessagingError(what, cause), whole: false };
}
