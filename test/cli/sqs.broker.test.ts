import { ListSubscriptionsCommand } from "@aws-sdk/client-sns";
import { ListQueuesCommand } from "@aws-sdk/client-sqs";
import { createBroker, topic } from "anybroker";
import type { SqsAdapter } from "anybroker/sqs";
import { fromUrl } from "anybroker/url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeFauxqs } from "../brokers/suite.ts";
import { fauxqsEnvironment } from "../examples/fauxqs-environment.ts";
import { verbsSuite } from "./verbs-on-broker.ts";

describeFauxqs("the command line on SQS and SNS", (broker) => {
  const place = broker.newNamespace();
  const { BROKER_URL = "", ...credentials } = fauxqsEnvironment(broker);
  const before = { ...process.env };
  beforeAll(() => Object.assign(process.env, credentials));
  afterAll(async () => {
    for (const name of Object.keys(credentials)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
    await place.remove();
  });
  verbsSuite({
    adapter: "sqs",
    environment: credentials,
    url: () => `${BROKER_URL}&namePrefix=${place.namePrefix}`,
    prefix: "",
    server: { version: null, servers: null },
    consumers: null,
    oldestAgeMs: null,
    comparesFilters: true,
    watchesQueues: false,
    lists: true,
  });

  test("watching a topic leaves no queue and no subscription behind, also where it was never told to end", async () => {
    const adapter = await fromUrl(`${BROKER_URL}&namePrefix=${place.namePrefix}watch-`);
    const watched = topic("watched");
    const watching = createBroker(adapter, { destinations: [watched] });
    await watching.start();
    const end = await adapter.watch?.({ kind: "topic", name: "watched" }, { seen: async () => {}, ended: () => {} });
    const { sqs, sns } = (adapter as SqsAdapter).clients ?? {};
    const queues = async (): Promise<number> => {
      const { QueueUrls = [] } =
        (await sqs?.send(new ListQueuesCommand({ QueueNamePrefix: `${place.namePrefix}watch-_anybroker-tail-` }))) ??
        {};
      return QueueUrls.length;
    };
    const subscriptions = async (): Promise<number> => {
      const { Subscriptions = [] } = (await sns?.send(new ListSubscriptionsCommand({}))) ?? {};
      return Subscriptions.filter(({ Endpoint }) => Endpoint?.includes(`${place.namePrefix}watch-_anybroker-tail-`))
        .length;
    };
    expect([await queues(), await subscriptions()]).toEqual([1, 1]);
    await end?.();
    expect([await queues(), await subscriptions()]).toEqual([0, 0]);
    await adapter.watch?.({ kind: "topic", name: "watched" }, { seen: async () => {}, ended: () => {} });
    await watching.stop();
    const after = await fromUrl(`${BROKER_URL}&namePrefix=${place.namePrefix}watch-`);
    const looking = createBroker(after, { declare: "none" });
    await looking.start();
    const own = (after as SqsAdapter).clients;
    const { QueueUrls = [] } =
      (await own?.sqs.send(new ListQueuesCommand({ QueueNamePrefix: `${place.namePrefix}watch-_anybroker-tail-` }))) ??
      {};
    await looking.stop();
    expect(QueueUrls).toEqual([]);
  });
});
