import type { MessageAttributeValue } from "@aws-sdk/client-sqs";
import { createBroker, type SubscribeOptions, topic } from "anybroker";
import { describe, expect, onTestFinished, test } from "vitest";
import { bringing, Feed, received } from "./feed.ts";
import { eventually, unopened } from "./opened.ts";
import { headersOf } from "./outgoing.ts";
import { topicArn } from "./scripted-account.ts";

describe("events", () => {
  const placed = topic<{ n: number }>("placed");

  async function subscribed(options: SubscribeOptions = {}) {
    const { aws, adapter } = await unopened();
    const feed = new Feed(aws);
    const handled: unknown[] = [];
    const broker = createBroker(adapter, { declare: "none" });
    broker.subscribe(
      placed,
      "billing",
      (body, { id, headers, routingKey }) => void handled.push({ body, id, headers: { ...headers }, routingKey }),
      options,
    );
    onTestFinished(() => broker.stop({ timeoutMs: 1 }));
    await broker.start();
    return { aws, feed, handled };
  }

  test("without raw delivery are taken out of SNS's envelope, ours and those of others", async () => {
    const { feed, handled, aws } = await subscribed();
    const wrapped = (id: string, Message: string, attributes: Record<string, MessageAttributeValue>) => {
      const MessageAttributes = Object.fromEntries(
        Object.entries(attributes).map(([name, { StringValue }]) => [name, { Type: "String", Value: StringValue }]),
      );
      const Body = JSON.stringify({
        Type: "Notification",
        MessageId: id,
        TopicArn: topicArn("placed"),
        Message,
        MessageAttributes,
      });
      return {
        MessageId: `aws-${id}`,
        ReceiptHandle: `receipt-${id}`,
        Body,
        Attributes: { ApproximateReceiveCount: "1" },
      };
    };
    const ours = received({
      id: "e-1",
      routingKey: "geo.us",
      headers: headersOf({ city: "Zürich" }),
      body: Buffer.from('{"n":1}'),
    });
    feed.give(
      "placed_-_-billing",
      bringing(
        wrapped("sns-1", ours.Body ?? "", ours.MessageAttributes ?? {}),
        wrapped("sns-2", '{"n":2}', { city: { DataType: "String", StringValue: "Bern" } }),
      ),
    );
    await eventually(() => aws.entries("DeleteMessageBatch").length === 2);
    expect(handled).toEqual([
      { body: { n: 1 }, id: "e-1", headers: { city: "Zürich" }, routingKey: "geo.us" },
      { body: { n: 2 }, id: "sns-2", headers: { city: "Bern" }, routingKey: undefined },
    ]);
  });

  test("that SNS could not keep away for a filter are deleted unhandled", async () => {
    const { feed, handled, aws } = await subscribed({ filter: "geo.*.ny" });
    const body = Buffer.from('{"n":1}');
    const keys = ["geo.us.ny", "geo.us.la", "geo.us"];
    feed.give(
      "placed_-_-billing",
      bringing(...keys.map((routingKey, index) => received({ id: `e-${index}`, routingKey, body }))),
    );
    await eventually(() => aws.entries("DeleteMessageBatch").length === 3);
    expect(handled).toMatchObject([{ id: "e-0" }]);
  });

  test("that came by another filter, or from somebody who has none, are handled and not thrown away", async () => {
    const { feed, handled, aws } = await subscribed({ filter: "geo.us" });
    const body = Buffer.from('{"n":1}');
    // The filter of a version that is being rolled out beside this one asks for Germany as well.
    const messages = ["geo.us", "geo.de", undefined].map((routingKey, index) =>
      received({ id: `e-${index}`, body, ...(routingKey === undefined ? {} : { routingKey }) }),
    );
    feed.give("placed_-_-billing", bringing(...messages));
    await eventually(() => aws.entries("DeleteMessageBatch").length === 3);
    expect(handled).toMatchObject([{ id: "e-0" }, { id: "e-1" }, { id: "e-2" }]);
  });
});
