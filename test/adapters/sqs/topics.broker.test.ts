import {
  DeleteTopicCommand,
  GetSubscriptionAttributesCommand,
  ListSubscriptionsByTopicCommand,
  ListTopicsCommand,
  SetSubscriptionAttributesCommand,
  SNSClient,
  UnsubscribeCommand,
} from "@aws-sdk/client-sns";
import { GetQueueUrlCommand, SetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import { createBroker, topic } from "anybroker";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import { underPrefix } from "../../../adapters/sqs/names.ts";
import type { SubscriptionDeclaration, TopicDeclaration } from "../../../core/adapter.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { clientOf } from "../../brokers/sqs/cases.ts";
import { describeFauxqs } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { send } from "../../sqs/opened.ts";
import { outgoing } from "../../sqs/outgoing.ts";
import { subscriptionOf, topology } from "../seam-values.ts";
import { taking, useAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

const said = (problems: readonly MessagingError[]) => problems.map(({ message }) => message).join("\n");
const codes = (problems: readonly MessagingError[]) => [...new Set(problems.map(({ code }) => code))];

// ElasticMQ has no topics.
describeFauxqs("topics on fauxqs", (broker) => {
  const { place, options, adapter } = useAdapter(broker);
  const { url: endpoint, region, credentials } = broker;
  const sns = new SNSClient({ endpoint, region, credentials });
  const client = clientOf(broker);

  afterAll(() => {
    sns.destroy();
    client.destroy();
  });

  const topicOf = (name: string): TopicDeclaration => ({ address: { kind: "topic", name }, ordered: false });
  const arnOf = async (name: string): Promise<string> => {
    const { Topics = [] } = await sns.send(new ListTopicsCommand());
    return Topics.find(({ TopicArn }) => TopicArn?.endsWith(`:${underPrefix(place.namePrefix, name)}`))?.TopicArn ?? "";
  };
  const subscriptionsOf = async (name: string): Promise<readonly string[]> => {
    const { Subscriptions = [] } = await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn: await arnOf(name) }));
    return Subscriptions.map(({ SubscriptionArn = "" }) => SubscriptionArn);
  };
  const attributesOf = async (SubscriptionArn = "") => {
    const { Attributes = {} } = await sns.send(new GetSubscriptionAttributesCommand({ SubscriptionArn }));
    return Attributes;
  };
  const set = (SubscriptionArn: string | undefined, AttributeName: string, AttributeValue: string) =>
    sns.send(new SetSubscriptionAttributesCommand({ SubscriptionArn, AttributeName, AttributeValue }));

  /** A topic with a subscription, made; `declare` declares them, in any mode, with the filter then asked for. */
  async function declared(name: string, filter?: string) {
    const declare = (mode: "create" | "verify", asked = filter) => {
      const subscriptions: SubscriptionDeclaration[] = [subscriptionOf(name, "s", asked)];
      return adapter().declare(topology({ mode, topics: [topicOf(name)], subscriptions }));
    };
    expect(codes(await declare("verify"))).toEqual(["not-found"]);
    expect(await declare("create")).toEqual([]);
    const [arn] = await subscriptionsOf(name);
    return { declare, arn };
  }

  const publish = (name: string, ...routingKeys: readonly string[]) =>
    send(
      adapter(),
      routingKeys.map((routingKey) => outgoing({ id: `${routingKey} event`, routingKey })),
      { kind: "topic", name },
    );

  test("made twice are made once, and verify finds nothing then", async () => {
    const { declare } = await declared("twice", "geo.#");
    const before = await Promise.all((await subscriptionsOf("twice")).map(attributesOf));
    expect(await declare("create")).toEqual([]);
    expect(await declare("verify")).toEqual([]);
    expect(await Promise.all((await subscriptionsOf("twice")).map(attributesOf))).toEqual(before);
    expect(before).toHaveLength(1);
    expect(before[0]).toMatchObject({ RawMessageDelivery: "true" });
  });

  test("a changed filter is found by verify, set by create, and in force then", async () => {
    const { declare, arn } = await declared("changed", "geo.us");
    const wide = await declare("verify", "geo.#");
    expect(codes(wide)).toEqual(["conflict"]);
    expect(said(wide)).toContain("has another filter policy");
    await publish("changed", "geo.us", "geo.de");
    expect(await declare("create", "geo.#")).toEqual([]);
    expect(await declare("verify", "geo.#")).toEqual([]);
    await publish("changed", "geo", "geo.de.berlin", "weather");
    expect(await declare("create", "#")).toEqual([]);
    expect((await attributesOf(arn)).FilterPolicy ?? "{}").toBe("{}");
    await publish("changed", "weather.rain");
    const { inbox } = await taking(adapter(), subscriptionOf("changed", "s").address);
    // The last was published last: what is not there by then was kept away.
    const wanted = ["geo.us", "geo", "geo.de.berlin", "weather.rain"].map((key) => `${key} event`).sort();
    await until("the last", WAIT_MS, () => expect(inbox.messages.map(({ id }) => id).sort()).toEqual(wanted));
    expect((await adapter().depth(subscriptionOf("changed", "s").address)).ready).toBe(0);
  });

  test("a subscription without raw delivery is found by verify and mended by create; what came before is read all the same", async () => {
    const { declare, arn } = await declared("wrapped");
    await set(arn, "RawMessageDelivery", "false");
    expect(said(await declare("verify"))).toContain("has no raw delivery");
    await publish("wrapped", "before");
    expect(await declare("create")).toEqual([]);
    await publish("wrapped", "after");
    const { inbox } = await taking(adapter(), subscriptionOf("wrapped", "s").address);
    await until("both", WAIT_MS, () => {
      expect(inbox.messages.map(({ id, routingKey }) => `${id} by ${routingKey}`).sort()).toEqual([
        "after event by after",
        "before event by before",
      ]);
    });
    const bodies = inbox.messages.map(({ native }) => (native as { Body?: string }).Body ?? "").sort();
    expect(bodies).toEqual([expect.stringContaining("TopicArn"), "{}"]);
  });

  test("a subscription or a topic that is gone is found by verify, and made by create", async () => {
    const { declare, arn } = await declared("gone", "geo.us");
    await sns.send(new UnsubscribeCommand({ SubscriptionArn: arn }));
    const unsubscribed = await declare("verify");
    expect(codes(unsubscribed)).toEqual(["not-found"]);
    expect(said(unsubscribed)).toContain("its queue is not subscribed to the topic");
    expect(await declare("create")).toEqual([]);
    expect(await declare("verify")).toEqual([]);
    await sns.send(new DeleteTopicCommand({ TopicArn: await arnOf("gone") }));
    expect(said(await declare("verify"))).toContain('topic "gone" does not exist');
    expect(await declare("create")).toEqual([]);
    expect(await subscriptionsOf("gone")).toHaveLength(1);
    expect((await publish("gone", "geo.us"))[0]?.status).toBe("confirmed");
  });

  test("a queue policy that does not name the topic is a conflict, and stays", async () => {
    const { declare } = await declared("closed");
    const { QueueUrl } = await client.send(
      new GetQueueUrlCommand({ QueueName: underPrefix(place.namePrefix, "closed_-_-s") }),
    );
    const Policy = JSON.stringify({ Version: "2012-10-17", Statement: [] });
    await client.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { Policy } }));
    for (const mode of ["create", "verify"] as const) {
      const problems = await declare(mode);
      expect(codes(problems)).toEqual(["conflict"]);
      expect(said(problems)).toContain("does not name the topic");
    }
  });

  test("a topic of the other kind is a conflict, and gets no second one beside it", async () => {
    await declared("kind");
    const problems = await adapter().declare(topology({ topics: [{ ...topicOf("kind"), ordered: true }] }));
    expect(codes(problems)).toEqual(["conflict"]);
    expect(said(problems)).toContain('topic "kind" exists on SNS as a standard topic');
    expect(await arnOf("kind.fifo")).toBe("");
  });

  test("a delayed event waits with its subscriptions, each for itself", async () => {
    const placed = topic<{ n: number }>("delayed");
    const handled: { name: string; at: number; attempt: number }[] = [];
    const shop = createBroker(sqs(options));
    onTestFinished(() => shop.stop());
    for (const name of ["billing", "mail"]) {
      shop.subscribe(placed, name, (_, { attempt }) => void handled.push({ name, at: Date.now(), attempt }));
    }
    await shop.start();
    const sentAt = Date.now();
    await shop.publish(placed, { n: 1 }, { delayMs: 1_500 });
    await until("both", WAIT_MS, () => expect(handled.map(({ name }) => name).sort()).toEqual(["billing", "mail"]));
    for (const { at, attempt } of handled) {
      expect(at - sentAt).toBeGreaterThanOrEqual(1_500);
      expect(attempt).toBe(1);
    }
  });
});
