import type { SQSClient } from "@aws-sdk/client-sqs";

/** What an answer is checked for. */
type Check = (output: Readonly<Record<string, unknown>>) => boolean;

const isText = (value: unknown): boolean => typeof value === "string" && value !== "";
const isTextIfAny = (value: unknown): boolean => value === undefined || typeof value === "string";
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A list of objects, if there is one; SDKs leave empty lists out. */
function isListOf(list: unknown, isEntry: Check): boolean {
  return (
    list === undefined ||
    list === null ||
    (Array.isArray(list) && list.every((each) => isObject(each) && isEntry(each)))
  );
}

const isBatch: Check = ({ Successful, Failed }) =>
  isListOf(Successful, ({ Id }) => isText(Id)) &&
  isListOf(Failed, ({ Id, Code, Message }) => isText(Id) && isTextIfAny(Code) && isTextIfAny(Message));

const CHECKS: Readonly<Record<string, Check>> = {
  SendMessageCommand: ({ MessageId }) => isText(MessageId),
  SendMessageBatchCommand: isBatch,
  PublishBatchCommand: isBatch,
  DeleteMessageBatchCommand: isBatch,
  ChangeMessageVisibilityBatchCommand: isBatch,
  ReceiveMessageCommand: ({ Messages }) =>
    isListOf(
      Messages,
      ({ MessageId, ReceiptHandle, Body, Attributes, MessageAttributes }) =>
        isText(ReceiptHandle) &&
        isTextIfAny(MessageId) &&
        isTextIfAny(Body) &&
        [Attributes, MessageAttributes].every((each) => each === undefined || each === null || isObject(each)),
    ),
  ListTopicsCommand: ({ Topics, NextToken }) =>
    isListOf(Topics, ({ TopicArn }) => isTextIfAny(TopicArn)) && isTextIfAny(NextToken),
  ListSubscriptionsByTopicCommand: ({ Subscriptions, NextToken }) =>
    isListOf(Subscriptions, ({ SubscriptionArn }) => isTextIfAny(SubscriptionArn)) && isTextIfAny(NextToken),
  GetQueueUrlCommand: ({ QueueUrl }) => isText(QueueUrl),
  GetQueueAttributesCommand: ({ Attributes }) => Attributes === undefined || isObject(Attributes),
};

/** What answered is none of SQS or SNS. */
export class AnswerShapeError extends Error {
  override readonly name = "AnswerShapeError";
}

/**
 * Has a client reject answers that are none of SQS or SNS though their status is 200, as what stands between may give: a
 * page that asks for a login is no confirmation. They count as no answer at all.
 */
export function checkAnswers({ middlewareStack }: Pick<SQSClient, "middlewareStack">): void {
  middlewareStack.add(
    (next, { commandName = "" }) =>
      async (parameters) => {
        const result = await next(parameters);
        const output: unknown = result.output;
        const none = `what answered ${commandName} is no SQS or SNS`;
        if (!isObject(output) || !(CHECKS[commandName]?.(output) ?? true)) {
          throw new AnswerShapeError(`${none}: its answer has another shape`);
        }
        const { MaxNumberOfMessages: most } = parameters.input as { readonly MaxNumberOfMessages?: number };
        const count = Array.isArray(output.Messages) ? output.Messages.length : 0;
        if (most === undefined || count <= most) return result;
        throw new AnswerShapeError(`${none}: it brought ${count} messages where ${most} were asked for`);
      },
    { step: "initialize", name: "anybrokerAnswers" },
  );
}
