import { paginateListSubscriptions, paginateListTopics, SNSClient } from "@aws-sdk/client-sns";
import { paginateListQueues, SQSClient } from "@aws-sdk/client-sqs";
import type { RunningSQS } from "../../brokers/sqs/running-sqs.ts";

/** The queues, topics and subscriptions of one suite. */
export async function existingOnSQS(
  { url: endpoint, region, credentials }: RunningSQS,
  namePrefix: string,
  hasTopics: boolean,
): Promise<readonly string[]> {
  const clientOptions = { endpoint, region, credentials };
  const sqs = new SQSClient(clientOptions);
  const sns = new SNSClient(clientOptions);
  const existing: (string | undefined)[] = [];
  try {
    const queues = paginateListQueues({ client: sqs, pageSize: 1_000 }, { QueueNamePrefix: namePrefix });
    for await (const { QueueUrls = [] } of queues) existing.push(...QueueUrls);
    if (hasTopics) {
      const topics = paginateListTopics({ client: sns }, {});
      for await (const { Topics = [] } of topics) existing.push(...Topics.map(({ TopicArn }) => TopicArn));
      const subscriptions = paginateListSubscriptions({ client: sns }, {});
      for await (const { Subscriptions = [] } of subscriptions)
        existing.push(...Subscriptions.map(({ Endpoint, SubscriptionArn }) => `${SubscriptionArn} to ${Endpoint}`));
    }
    return existing.flatMap((name) => (name?.includes(namePrefix) ? [name] : []));
  } finally {
    sqs.destroy();
    sns.destroy();
  }
}
