import type { Message, MessageAttributeValue } from "@aws-sdk/client-sqs";
import { createBroker, type SubscribeOptions, topic } from "anybroker";
import { describe, expect, onTestFinished, test } from "vitest";
import { bringing, Feed, received } from "./feed.ts";
import { eventually, opened, send, unopened } from "./opened.ts";
import { headersOf, outgoing } from "./outgoing.ts";
import { topicArn } from "./scripted-account.ts";

describe("events", () => {
  const placed = topic<{ n: number }>("placed");

  async function subscribed(options: SubscribeOptions = {}) {
    const { aws, adapter } = await unopened();
    const feed = new Feed(aws);
    const handled: unknown[] = [];
    const broker = createBroker(adapter, { declare: "none" });
    const consumer = broker.subscribe(
      placed,
      "billing",
      (body, { id, headers, routingKey }) => void handled.push({ body, id, headers: { ...headers }, routingKey }),
      options,
    );
    onTestFinished(() => broker.stop({ timeoutMs: 1 }));
    await broker.start();
    return { aws, feed, handled, consumer };
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

  test("that SNS could not keep away for a filter are deleted unhandled, and counted", async () => {
    const { feed, handled, aws, consumer } = await subscribed({ filter: "geo.*.ny" });
    const body = Buffer.from('{"n":1}');
    const keys = ["geo.us.ny", "geo.us.la", "geo.us"];
    feed.give(
      "placed_-_-billing",
      bringing(...keys.map((routingKey, index) => received({ id: `e-${index}`, routingKey, body }))),
    );
    await eventually(() => aws.entries("DeleteMessageBatch").length === 3);
    expect(handled).toMatchObject([{ id: "e-0" }]);
    await eventually(() => consumer.status().filtered === 2);
    expect(consumer.status()).toMatchObject({ started: 1, fenced: 0 });
  });

  test("that were sent to the subscription itself are handled, whatever its filter says", async () => {
    const { feed, handled, consumer } = await subscribed({ filter: "geo.*.ny" });
    const { aws, adapter } = await opened();
    const copy = outgoing({ id: "copy", routingKey: "geo.us.la", body: Buffer.from('{"n":1}') });
    const of = { kind: "subscription", topic: "placed", name: "billing" } as const;
    const places = [of, { kind: "dead-letters", of }] as const;
    for (const to of places) expect(await send(adapter, [copy], to)).toEqual([{ status: "confirmed" }]);
    const sent = aws.inputs("SendMessage") as unknown as readonly Message[];
    const messages = sent.map(({ MessageAttributes = {} }, index) => ({
      ...received({ id: `copy-${index}` }),
      Body: '{"n":1}',
      MessageAttributes,
    }));
    feed.give("placed_-_-billing", bringing(...messages));
    await eventually(() => handled.length === places.length);
    expect(consumer.status().filtered).toBe(0);
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
