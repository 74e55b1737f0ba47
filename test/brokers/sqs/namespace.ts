import { randomBytes } from "node:crypto";
import { DeleteTopicCommand, paginateListTopics, SNSClient } from "@aws-sdk/client-sns";
import { DeleteQueueCommand, paginateListQueues, SQSClient } from "@aws-sdk/client-sqs";
import { until } from "../until.ts";
import { SQS_CREDENTIALS, SQS_REGION } from "./running-sqs.ts";

/** Names that one suite has for itself, on a server that all share. */
export interface Namespace {
  /** What the names of queues and topics must begin with. It is short: a queue's name has 80 characters. */
  readonly namePrefix: string;
  /** Removes every queue and topic with such a name. */
  remove(): Promise<void>;
}

/** Names that no other suite has. */
export function newNamespace(endpoint: string, services: "sqs" | "sqs and sns"): Namespace {
  const namePrefix = `test-${randomBytes(6).toString("hex")}-`;
  return {
    namePrefix,
    remove: () =>
      until("the end of a suite's queues and topics", 60_000, async () => {
        if (services === "sqs and sns") await removeTopics(endpoint, namePrefix);
        await removeQueues(endpoint, namePrefix);
      }),
  };
}

async function removeQueues(endpoint: string, namePrefix: string): Promise<void> {
  const client = new SQSClient({ endpoint, region: SQS_REGION, credentials: SQS_CREDENTIALS });
  try {
    const urls: string[] = [];
    const pages = paginateListQueues({ client, pageSize: 1_000 }, { QueueNamePrefix: namePrefix });
    for await (const { QueueUrls = [] } of pages) urls.push(...QueueUrls);
    await Promise.all(urls.map((QueueUrl) => client.send(new DeleteQueueCommand({ QueueUrl }))));
  } finally {
    client.destroy();
  }
}

/** With a topic go its subscriptions. */
async function removeTopics(endpoint: string, namePrefix: string): Promise<void> {
  const client = new SNSClient({ endpoint, region: SQS_REGION, credentials: SQS_CREDENTIALS });
  try {
    const arns: string[] = [];
    for await (const { Topics = [] } of paginateListTopics({ client }, {})) {
      for (const { TopicArn = "" } of Topics)
        if (TopicArn.split(":").at(-1)?.startsWith(namePrefix)) arns.push(TopicArn);
    }
    await Promise.all(arns.map((TopicArn) => client.send(new DeleteTopicCommand({ TopicArn }))));
  } finally {
    client.destroy();
  }
}
