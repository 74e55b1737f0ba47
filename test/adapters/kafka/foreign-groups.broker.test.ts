import { type Consumer, Kafka, logLevel } from "kafkajs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { topicName } from "../../../adapters/kafka/names.ts";
import type { GroupDescription, KafkaConnection } from "../../../adapters/kafka/port.ts";
import type { QueueAddress } from "../../../core/address.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { isMessagingError } from "../../../core/errors.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { message, topology, workQueue } from "../seam-values.ts";
import { coordinatorOf } from "./kafkajs/wire.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";
import { OpenMembers } from "./open-members.ts";
import { OtherMember } from "./other-members.ts";

const WAIT_MS = 240_000;
const PARTITIONS = 4;

describeKafka("groups that other clients have on Kafka", (broker) => {
  const names = broker.newNamespace();
  let session: Awaited<ReturnType<typeof openAdapter>>;
  let wire: KafkaConnection;
  const ends: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers, partitions: PARTITIONS });
    const timeouts = { connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 };
    wire = kafkaJsClient({ brokers: broker.brokers, clientId: "foreign-groups", ...timeouts }).connection();
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  afterAll(async () => {
    await wire?.close();
    await session?.adapter.close();
    await names.remove();
  });

  async function declared(name: string): Promise<QueueAddress> {
    const { address } = workQueue(names.namePrefix + name);
    expect(await session.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    return address;
  }

  async function others(kind: "consumer" | "share", group: string, topic = group): Promise<OtherMember> {
    const member = await OtherMember.join(broker.brokers[0] ?? "", kind, group, [topic]);
    let isClosed = false;
    const close = async (): Promise<void> => {
      if (!isClosed) await member.close();
      isClosed = true;
    };
    ends.push(close);
    return Object.assign(member, { close: OtherMember.prototype.close.bind(member), end: close });
  }

  async function plainConsumer(group: string, topic: string): Promise<Consumer> {
    const client = new Kafka({ brokers: [...broker.brokers], clientId: "a-plain-client", logLevel: logLevel.NOTHING });
    const consumer = client.consumer({ groupId: group });
    await consumer.connect();
    ends.push(() => consumer.disconnect());
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({ eachMessage: async () => undefined });
    return consumer;
  }

  async function described(group: string): Promise<GroupDescription> {
    return wire.describeGroup(await coordinatorOf(wire, group), group);
  }

  const hasMembers = (group: string, members: number) =>
    until(`${members} members`, WAIT_MS, async () => expect((await described(group)).members).toBe(members));

  async function receive(address: QueueAddress) {
    const { kept, sink, stalled, ids } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 100, ordered: false }, sink);
    ends.push(() => receiver.close());
    return { kept, stalled, ids, receiver };
  }

  /** Why a queue cannot be received from. */
  async function refusal(address: QueueAddress): Promise<string> {
    const outcome = await receive(address).then(
      () => "it was received",
      (error: unknown) => error,
    );
    if (!isMessagingError(outcome, "conflict")) throw outcome;
    return outcome.message;
  }

  test("of the new protocol are refused at the start by name, and are nobody's any more when they are empty", async () => {
    const address = await declared("new");
    const other = await others("consumer", topicName(address));
    await until("its partitions", WAIT_MS, () => expect(other.size).toBe(PARTITIONS));
    expect(await described(topicName(address))).toMatchObject({
      protocol: "consumer",
      members: 1,
      clients: ["other-client"],
    });
    const said = await refusal(address);
    for (const word of [`group "${topicName(address)}"`, "KIP-848", "other-client"]) expect(said).toContain(word);
    // Nobody was in its way: it has them still.
    expect(other.size).toBe(PARTITIONS);

    const orders = queue<{ id: string }>(address.name);
    const application = createBroker(kafka({ brokers: broker.brokers }), { declare: "none" });
    application.consume(orders, () => undefined);
    const failure = await application.start().catch((error: unknown) => error);
    expect(isMessagingError(failure, "start-failed") && failure.problems.map(({ code }) => code)).toEqual(["conflict"]);

    await other.close();
    ends.length = 0;
    await session.send(address, ...Array.from({ length: 20 }, (_, index) => message(`m-${index}`)));
    const { ids } = await receive(address);
    await until("all", WAIT_MS, () => expect(ids()).toHaveLength(20));
    expect(await described(topicName(address))).toMatchObject({ protocol: "classic", members: 1 });
  });

  test("whose assignments cannot be read are left to those who can read them", async () => {
    const address = await declared("unread");
    const other = await others("consumer", topicName(address));
    await until("its partitions", WAIT_MS, () => expect(other.size).toBe(PARTITIONS));
    // They came between the look at the group and the joining.
    const members = new OpenMembers(
      { group: topicName(address), topics: [topicName(address)], sessionTimeoutMs: 6_000 },
      (own) => ({
        describeGroup: async (node, group) => ({ ...(await own.describeGroup(node, group)), members: 0 }),
      }),
    );
    const { member, held, failures } = members.join(broker.brokers);
    ends.push(() => member.close());
    await expect(member.complete).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("KIP-848") as string,
    });
    expect(held.size).toBe(0);
    await until("the report", WAIT_MS, () => expect(failures.map(({ code }) => code)).toContain("conflict"));
    await member.close();
    await hasMembers(topicName(address), 1);
    await until("all with the other", WAIT_MS, () => expect(other.size).toBe(PARTITIONS));
  });

  test("cannot be made of ours while we are in them", async () => {
    const address = await declared("ours");
    const { ids, stalled } = await receive(address);
    const other = await others("consumer", topicName(address));
    await session.send(address, ...Array.from({ length: 40 }, (_, index) => message(`m-${index}`)));
    await until("all", WAIT_MS, () => expect(ids()).toHaveLength(40));
    expect(other.error).toBeDefined();
    expect([other.size, stalled]).toEqual([0, []]);
    expect(await described(topicName(address))).toMatchObject({ protocol: "classic", members: 1 });
  });

  test("of consumers with another assignor are refused at the start by name", async () => {
    const address = await declared("classic");
    await plainConsumer(topicName(address), topicName(address));
    await hasMembers(topicName(address), 1);
    await until("their assignment", WAIT_MS, async () =>
      expect((await described(topicName(address))).state).toBe("Stable"),
    );
    const said = await refusal(address);
    for (const word of [`group "${topicName(address)}"`, "RoundRobinAssigner", "a-plain-client"]) {
      expect(said).toContain(word);
    }
  });

  test("that are no consumers' are refused at the start by name", async () => {
    const address = await declared("shared");
    const other = await others("share", topicName(address));
    expect(other.error).toBeUndefined();
    const said = await refusal(address);
    for (const word of [`group "${topicName(address)}"`, "share"]) expect(said).toContain(word);
  });

  test("of the dead letters are refused as well", async () => {
    const address = await declared("dead");
    const other = await others("consumer", `${address.name}.dlq`);
    await until("its partition", WAIT_MS, () => expect(other.size).toBe(1));
    const { sink } = keepingSink();
    const dead = { kind: "dead-letters", of: address } as const;
    await expect(session.adapter.receive(dead, { prefetch: 1, ordered: false }, sink)).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("KIP-848") as string,
    });
  });
});
