import { readFile } from "node:fs/promises";
import {
  CreateTopicCommand,
  ListTopicsCommand,
  PublishCommand,
  SNSClient,
  SubscribeCommand,
} from "@aws-sdk/client-sns";
import {
  ChangeMessageVisibilityCommand,
  CreateQueueCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
} from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FAUXQS_VERSION } from "./fauxqs/version.ts";
import { clientOf, sqsCases } from "./sqs/cases.ts";
import type { Namespace } from "./sqs/namespace.ts";
import { controlsOrNotRun, describeFauxqs } from "./suite.ts";

test("the image and the development dependency are one release", async () => {
  const manifest = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
  expect(manifest.devDependencies.fauxqs).toBe(FAUXQS_VERSION);
});

describeFauxqs("fauxqs to test against", (broker) => {
  let place: Namespace;
  let sqs: SQSClient;
  let sns: SNSClient;

  sqsCases(broker);

  beforeAll(() => {
    place = broker.newNamespace();
    sqs = clientOf(broker);
    sns = new SNSClient({ endpoint: broker.url, region: broker.region, credentials: broker.credentials });
  });

  afterAll(async () => {
    await place.remove();
    sqs.destroy();
    sns.destroy();
  });

  async function makeQueue(name: string): Promise<string> {
    const { QueueUrl = "" } = await sqs.send(new CreateQueueCommand({ QueueName: `${place.namePrefix}${name}` }));
    return QueueUrl;
  }

  async function makeTopic(name: string, namePrefix = place.namePrefix): Promise<string> {
    const { TopicArn = "" } = await sns.send(new CreateTopicCommand({ Name: `${namePrefix}${name}` }));
    return TopicArn;
  }

  async function subscribe(topic: string, queue: string): Promise<void> {
    const arn = await sqs.send(new GetQueueAttributesCommand({ QueueUrl: queue, AttributeNames: ["QueueArn"] }));
    await sns.send(
      new SubscribeCommand({
        TopicArn: topic,
        Protocol: "sqs",
        Endpoint: arn.Attributes?.QueueArn,
        Attributes: { RawMessageDelivery: "true" },
      }),
    );
  }

  async function receive(queue: string) {
    const { Messages: [message] = [] } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: queue,
        WaitTimeSeconds: 1,
        MessageSystemAttributeNames: ["ApproximateReceiveCount"],
      }),
    );
    return message;
  }

  test("a topic's messages come to each queue that is subscribed, also after a kill", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const topic = await makeTopic("events");
    const queues = [await makeQueue("first"), await makeQueue("second")];
    for (const queue of queues) await subscribe(topic, queue);
    const publish = (Message: string) => sns.send(new PublishCommand({ TopicArn: topic, Message }));
    await publish("before");
    await controls.kill();
    await controls.start();
    await publish("after");
    for (const queue of queues) {
      const bodies = [await receive(queue), await receive(queue)].map((message) => message?.Body);
      expect(bodies).toEqual(["before", "after"]);
    }
  });

  test("a message that is given back comes again, also after a kill, and its attempts are counted on", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const queue = await makeQueue("given-back");
    await sqs.send(new SendMessageCommand({ QueueUrl: queue, MessageBody: "again" }));
    const giveBack = async (count: string) => {
      const message = await receive(queue);
      expect(message?.Attributes?.ApproximateReceiveCount).toBe(count);
      const { ReceiptHandle } = message ?? {};
      await sqs.send(new ChangeMessageVisibilityCommand({ QueueUrl: queue, ReceiptHandle, VisibilityTimeout: 0 }));
    };
    await giveBack("1");
    await giveBack("2");
    await controls.kill();
    await controls.start();
    const last = await receive(queue);
    expect(last).toMatchObject({ Body: "again", Attributes: { ApproximateReceiveCount: "3" } });
    await sqs.send(new DeleteMessageCommand({ QueueUrl: queue, ReceiptHandle: last?.ReceiptHandle }));
  });

  test("a namespace that is removed takes its topics with it, and no others", async () => {
    const other = broker.newNamespace();
    const mine = await makeTopic("mine");
    const theirs = await makeTopic("mine", other.namePrefix);
    await other.remove();
    const { Topics = [] } = await sns.send(new ListTopicsCommand());
    const left = Topics.map(({ TopicArn }) => TopicArn);
    expect(left).toContain(mine);
    expect(left).not.toContain(theirs);
  });
});
