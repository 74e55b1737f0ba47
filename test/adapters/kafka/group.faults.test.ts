import kafkajs from "kafkajs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { partitionKey } from "../../../adapters/kafka/names.ts";

import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import { controlsOrNotRun, describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { connectionTo, coordinatorOf, makeTopics } from "./kafkajs/wire.ts";
import { OpenMembers } from "./open-members.ts";

const WAIT_MS = 240_000;
const PARTITIONS = 6;
/** The shortest that Kafka allows unless told otherwise. */
const SHORT_SESSION_MS = 6_000;

describeKafka("groups on Kafka", (broker) => {
  const names = broker.newNamespace();
  let wire: KafkaConnection;
  let members: OpenMembers;
  let group: string;
  let topic: string;
  let made = 0;

  beforeAll(async () => {
    wire = connectionTo(broker.brokers);
    await wire.connect();
  });
  afterAll(async () => {
    await wire?.close();
    await names.remove();
  });
  beforeEach(async () => {
    group = `${names.namePrefix}group${made}`;
    topic = `${names.namePrefix}orders${made++}`;
    await makeTopics(wire, PARTITIONS, topic);
    members = new OpenMembers({ group, topics: [topic], sessionTimeoutMs: SHORT_SESSION_MS });
  });
  afterEach(async () => {
    await Promise.all(members.open.map(({ member }) => member.close()));
  });

  const balanced = (count: number) =>
    until(`${count} balanced members`, WAIT_MS, () => members.expectBalance(PARTITIONS, count));

  const first = (held: ReadonlySet<string>, offset: number) => {
    const [key = ""] = held;
    return { topic, partition: Number(key.slice(key.lastIndexOf("/") + 1)), offset, metadata: `at ${offset}` };
  };

  test("three members join and leave, and what one keeps is never taken from it", async () => {
    const one = members.join(broker.brokers);
    await balanced(1);
    const two = members.join(broker.brokers);
    await balanced(2);
    const three = members.join(broker.brokers);
    await balanced(3);
    expect(await wire.describeGroup(await coordinatorOf(wire, group), group)).toMatchObject({
      error: undefined,
      state: "Stable",
      members: 3,
    });
    expect([one, two].map(({ revoked }) => revoked.length)).toEqual([4, 1]);

    const kept = [...one.held, ...three.held];
    await two.member.close();
    await balanced(2);
    expect([...one.held, ...three.held]).toEqual(expect.arrayContaining(kept));
    expect(one.revoked.length + three.revoked.length).toBe(4);
    expect([one, two, three].flatMap(({ lost }) => lost)).toEqual([]);
    expect(members.collisions).toEqual([]);
  });

  test("Kafka's own tools see who has what", async () => {
    for (let count = 0; count < 2; count++) members.join(broker.brokers);
    await balanced(2);
    const admin = new kafkajs.Kafka({ brokers: [...broker.brokers], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    const { groups } = await admin.describeGroups([group]).finally(() => admin.disconnect());
    expect(groups[0]).toMatchObject({ state: "Stable", protocolType: "consumer", protocol: "anybroker-cooperative" });
    const seen = (groups[0]?.members ?? []).map(({ memberAssignment, memberMetadata }) => {
      expect(kafkajs.AssignerProtocol.MemberMetadata.decode(memberMetadata)?.topics).toEqual([topic]);
      const { assignment = {} } = kafkajs.AssignerProtocol.MemberAssignment.decode(memberAssignment) ?? {};
      return (assignment[topic] ?? []).map((partition) => partitionKey({ topic, partition })).sort();
    });
    expect(seen.sort()).toEqual(members.open.map(({ held }) => [...held].sort()).sort());
  });

  test("what a member that is gone had committed is found by those who have its partitions then", async () => {
    const one = members.join(broker.brokers);
    const two = members.join(broker.brokers);
    await balanced(2);
    const offset = first(one.held, 7);
    expect(await one.member.commit([offset])).toEqual(["committed"]);
    expect(await two.member.commit([offset])).toEqual(["fenced"]);
    await one.kill();
    await balanced(1);
    expect(two.held).toContain(partitionKey(offset));
    expect(await two.member.committed([offset])).toMatchObject([offset]);
    expect(two.lost).toEqual([]);
  });

  test("new partitions and new topics are found when somebody asks", async () => {
    const later = `${topic}.later`;
    members = new OpenMembers({ group, topics: [topic, later], sessionTimeoutMs: SHORT_SESSION_MS });
    const one = members.join(broker.brokers);
    const two = members.join(broker.brokers);
    await balanced(2);
    await until("reports of both", WAIT_MS, () => {
      for (const { failures } of [one, two]) expect(failures.map(({ code }) => code)).toContain("not-found");
    });
    await makeTopics(wire, 2, later);
    const admin = new kafkajs.Kafka({ brokers: [...broker.brokers], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    await admin
      .createPartitions({ topicPartitions: [{ topic, count: PARTITIONS + 2 }] })
      .finally(() => admin.disconnect());
    await until("all partitions", WAIT_MS, () => {
      one.member.refresh();
      two.member.refresh();
      members.expectBalance(PARTITIONS + 4, 2);
    });
    expect([...one.lost, ...two.lost]).toEqual([]);
  });

  test("a member that nobody hears has lost its partitions before others get them, and comes back", async (context) => {
    if (broker.faultyLink === undefined) return context.skip("NOT RUN: a broker given by URL has no faulty link");
    const link = await broker.faultyLink();
    try {
      const near = members.join(broker.brokers);
      const far = members.join([`${link.host}:${link.port}`]);
      await balanced(2);
      link.silence();
      await until("all partitions with the other", WAIT_MS, () => expect(near.held.size).toBe(PARTITIONS));
      expect(far.held.size).toBe(0);
      expect(far.lost).toHaveLength(PARTITIONS / 2);
      link.restore();
      await balanced(2);
      expect(near.lost).toEqual([]);
      expect(members.collisions).toEqual([]);
    } finally {
      await link.close();
    }
  });

  test("a restart of the broker within the session takes nothing from anybody", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    members = new OpenMembers({ group, topics: [topic], sessionTimeoutMs: WAIT_MS });
    for (let count = 0; count < 3; count++) members.join(broker.brokers);
    await balanced(3);
    const before = members.open.map(({ held }) => [...held]);
    await controls.restart();
    for (const { member, held } of members.open) {
      const offset = first(held, 3);
      await until("a commit", WAIT_MS, async () => expect(await member.commit([offset])).toEqual(["committed"]));
    }
    await until("a stable group", WAIT_MS, async () => {
      const { state } = await wire.describeGroup(await coordinatorOf(wire, group), group);
      expect(state).toBe("Stable");
    });
    expect(members.open.map(({ held }) => [...held])).toEqual(before);
    expect(members.open.flatMap(({ lost }) => lost)).toEqual([]);
    expect(members.collisions).toEqual([]);
  });

  test("of commits to a broker that stands still the last one stands", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    members = new OpenMembers({ group, topics: [topic], sessionTimeoutMs: 30_000 });
    const one = members.join(broker.brokers);
    await balanced(1);
    const partition = first(one.held, 0);
    let offset = 1;
    const commit = () => one.member.commit([{ ...partition, offset }]);
    expect(await commit()).toEqual(["committed"]);
    await controls.pause();
    try {
      offset = 2;
      expect(await commit()).toEqual(["failed"]);
    } finally {
      await controls.resume();
    }
    await until("a commit", WAIT_MS, async () => {
      offset++;
      expect(await commit()).toEqual(["committed"]);
    });
    const stands = async () => (await one.member.committed([partition]))[0]?.offset;
    expect(await stands()).toBe(offset);
    // A later commit of the same broker comes after whatever it had still to read.
    const joined = members.join(broker.brokers);
    await balanced(2);
    expect(await stands()).toBe(offset);
    expect([...one.lost, ...joined.lost]).toEqual([]);
  });
});
