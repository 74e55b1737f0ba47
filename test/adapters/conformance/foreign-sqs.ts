import { GetQueueUrlCommand, type Message, type MessageAttributeValue, SendMessageCommand } from "@aws-sdk/client-sqs";
import { awsName } from "../../../adapters/sqs/names.ts";
import type { ForeignSender } from "../../../conformance/index.ts";
import { clientOf } from "../../brokers/sqs/cases.ts";
import type { RunningSQS } from "../../brokers/sqs/running-sqs.ts";

const BODY = '{"n":1}';
const TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
const ATTRIBUTES: Readonly<Record<string, MessageAttributeValue>> = {
  text: { DataType: "String", StringValue: "plain" },
  count: { DataType: "Number", StringValue: "7.50" },
  bytes: { DataType: "Binary", BinaryValue: Uint8Array.of(0, 255) },
  custom: { DataType: "String.url", StringValue: "https://example.com" },
  a: { DataType: "String", StringValue: "1" },
  b: { DataType: "String", StringValue: "2" },
  c: { DataType: "String", StringValue: "3" },
  d: { DataType: "String", StringValue: "4" },
  e: { DataType: "String", StringValue: "5" },
};

/** The SDK alone. `traced` tells whether the server keeps the trace header of AWS. */
export function foreignOnSQS(broker: RunningSQS, namePrefix: string, traced: boolean): ForeignSender {
  const trace = traced ? TRACE : undefined;
  return {
    async send(name) {
      const client = clientOf(broker);
      const { QueueUrl } = await client.send(
        new GetQueueUrlCommand({ QueueName: awsName({ kind: "queue", name }, namePrefix) }),
      );
      const MessageSystemAttributes = { AWSTraceHeader: { DataType: "String", StringValue: TRACE } };
      await client.send(
        new SendMessageCommand({
          QueueUrl,
          MessageBody: BODY,
          MessageAttributes: ATTRIBUTES,
          ...(traced ? { MessageSystemAttributes } : {}),
        }),
      );
      client.destroy();
      return { body: BODY, attributes: plain(ATTRIBUTES), trace };
    },
    read(native) {
      const { Body, Attributes, MessageAttributes = {} } = native as Message;
      return { body: Body, attributes: plain(MessageAttributes), trace: Attributes?.AWSTraceHeader };
    },
  };
}

function plain(attributes: Readonly<Record<string, MessageAttributeValue>>): unknown {
  const given = Object.entries(attributes).filter(([name]) => name !== "anybroker");
  return Object.fromEntries(
    given.map(([name, { DataType, StringValue, BinaryValue }]) => [
      name,
      { DataType, value: BinaryValue === undefined ? StringValue : Buffer.from(BinaryValue).toString("hex") },
    ]),
  );
}
