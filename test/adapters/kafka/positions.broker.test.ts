import { setTimeout as sleep } from "node:timers/promises";
import type { Admin } from "kafkajs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { groupName } from "../../../adapters/kafka/names.ts";
import type { StartPosition, SubscriptionDeclaration } from "../../../core/adapter.ts";
import type { Address, SubscriptionAddress } from "../../../core/address.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

describeKafka("positions of subscriptions on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  let session: Awaited<ReturnType<typeof openAdapter>>;
  let admin: Admin;

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers, partitions: 2 });
    admin = session.adapter.kafkajs().admin();
    await admin.connect();
  });

  afterAll(async () => {
    await admin?.disconnect();
    await session?.adapter.close();
    await names.remove();
  });

  const from = (topic: string, name: string, position: StartPosition): SubscriptionDeclaration => {
    return { ...subscriptionOf(topic, name), from: position };
  };

  const declare = async (...subscriptions: SubscriptionDeclaration[]): Promise<void> => {
    expect(await session.adapter.declare(topology({ subscriptions }))).toEqual([]);
  };

  const publish = async (topic: string, ...ids: string[]): Promise<void> => {
    const address: Address = { kind: "topic", name: topic };
    const results = await session.send(address, ...ids.map((id) => message(id, { key: id })));
    expect(results.map(codeOf)).toEqual(ids.map(() => "confirmed"));
  };

  /** Consumes until the subscription has nothing more, settles all of it, and says what it was. */
  const consumed = async (address: SubscriptionAddress): Promise<string[]> => {
    const { kept, sink, ids } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 1_000, ordered: false }, sink);
    let settled = 0;
    await until(`the end of ${address.name}`, 30_000, async () => {
      const some = kept.slice(settled);
      settled = kept.length;
      const results = await receiver.settle(some.map(({ token }) => ({ token, action: "ack" })));
      expect(results).toEqual(some.map(() => "settled"));
      expect(await session.adapter.depth(address)).toMatchObject({ ready: 0 });
    });
    await receiver.close();
    return ids().sort();
  };

  test("begin where they are told to, and stay there when they are declared again", async () => {
    const t = named("starts");
    const [early, now] = [from(t, "early", "earliest"), from(t, "now", "now")];
    await declare(early);
    await publish(t, "a", "b", "c");
    await sleep(5);
    const time = new Date();
    await sleep(5);
    await publish(t, "d", "e");
    const ends = await admin.fetchTopicOffsets(t);
    const offsets = ends.map(({ partition, offset }) => ({ partition, offset: Number(offset) }));
    const [dated, future] = [from(t, "dated", time), from(t, "future", new Date(Date.now() + 3_600_000))];
    const [placed, named1] = [from(t, "placed", { offsets }), from(t, "partial", { offsets: offsets.slice(0, 1) })];
    const behind = offsets[1]?.offset ?? 0;
    const all = [now, dated, future, placed, named1];
    await declare(...all);
    await publish(t, "f", "g");
    await declare(early, ...all);
    expect(await consumed(early.address)).toEqual(["a", "b", "c", "d", "e", "f", "g"]);
    expect(await consumed(dated.address)).toEqual(["d", "e", "f", "g"]);
    for (const one of [now, future, placed]) expect(await consumed(one.address)).toEqual(["f", "g"]);
    // The partition that was not named begins with the oldest.
    expect(await consumed(named1.address)).toHaveLength(2 + behind);
  });

  test("that somebody committed beyond what a number holds are out of range, in their partition alone", async () => {
    const t = named("beyond");
    const all = from(t, "all", "earliest");
    await declare(all);
    await publish(t, "a", "b", "c", "d", "e");
    expect(await consumed(all.address)).toHaveLength(5);
    const [partition] = (await admin.fetchTopicOffsets(t)).filter(({ offset }) => Number(offset) > 0);
    const lie = { partition: partition?.partition ?? 0, offset: "9007199254740993" };
    const groupId = groupName(all.address);
    await admin.setOffsets({ groupId, topic: t, partitions: [lie] });
    // kafkajs sets them as a member of the group. On a busy machine it leaves late, or only when its session ends.
    await until("the group to be empty", 120_000, async () => {
      const { groups } = await admin.describeGroups([groupId]);
      expect(groups.flatMap(({ members }) => members)).toEqual([]);
    });
    expect(await session.adapter.depth(all.address)).toMatchObject({ ready: Number(partition?.offset) });
    await publish(t, "f", "g");
    expect(await consumed(all.address)).toEqual(expect.arrayContaining(["f", "g"]));
    expect(await consumed(all.address)).toEqual([]);
  });

  test("cannot begin where nothing is kept", async () => {
    const t = named("outside");
    await declare(from(t, "first", "now"));
    const refused = [
      from(t, "beyond", { offsets: [{ partition: 0, offset: 1 }] }),
      from(t, "nowhere", { offsets: [{ partition: 7, offset: 0 }] }),
    ];
    const problems = await session.adapter.declare(topology({ subscriptions: refused }));
    expect(problems.map(({ code }) => code)).toEqual(["invalid", "invalid"]);
    // It does not stand, so that a better position still counts.
    await publish(t, "a");
    await declare(from(t, "beyond", "earliest"));
    expect(await consumed(refused[0]?.address as SubscriptionAddress)).toEqual(["a"]);
  });

  test("that Kafka forgot go on at the earliest event, and somebody is told", async () => {
    const t = named("forgotten");
    const subscription = from(t, "s", "now");
    await declare(subscription);
    await publish(t, "a", "b");
    expect(await consumed(subscription.address)).toEqual(["a", "b"]);
    await admin.deleteGroups([`${t}..s`]);
    await publish(t, "c");
    const before = session.notices.length;
    await declare(subscription);
    const told = session.notices.slice(before);
    expect(told.map((notice) => notice.message).join()).toContain("offsets.retention.minutes");
    expect(await consumed(subscription.address)).toEqual(["a", "b", "c"]);
  });

  test("are moved by a rewind, but not under somebody who consumes", async () => {
    const t = named("rewound");
    const { address } = from(t, "s", "now");
    await declare(from(t, "s", "now"));
    await publish(t, "a", "b");
    expect(await consumed(address)).toEqual(["a", "b"]);
    await sleep(5);
    const time = new Date();
    await sleep(5);
    await publish(t, "c");
    expect(await consumed(address)).toEqual(["c"]);
    await session.adapter.rewind(address, "earliest");
    expect(await session.adapter.depth(address)).toMatchObject({ ready: 3 });
    expect(await consumed(address)).toEqual(["a", "b", "c"]);
    await session.adapter.rewind(address, time);
    expect(await consumed(address)).toEqual(["c"]);
    await session.adapter.rewind(address, "earliest");
    await session.adapter.rewind(address, "now");
    expect(await consumed(address)).toEqual([]);
    const { sink } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 1, ordered: false }, sink);
    await until("a member", 30_000, async () => {
      await expect(session.adapter.rewind(address, "earliest")).rejects.toMatchObject({ code: "conflict" });
    });
    await receiver.close();
    await session.adapter.rewind(address, { offsets: [{ partition: 0, offset: 0 }] });
    expect(await consumed(address)).toHaveLength(3);
    const unknown = { ...address, name: "unknown" };
    await expect(session.adapter.rewind(unknown, "now")).rejects.toMatchObject({ code: "not-found" });
    const beyond = session.adapter.rewind(address, { offsets: [{ partition: 0, offset: 99 }] });
    await expect(beyond).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining("99") });
  });

  test("behind which events were deleted go on at the earliest kept, and somebody is told", async () => {
    const t = named("deleted");
    const { address } = from(t, "s", "now");
    await declare(from(t, "s", "now"));
    const ids = Array.from({ length: 20 }, (_, n) => `e-${n}`);
    await publish(t, ...ids);
    // kafkajs deletes only in topics that it has looked at.
    expect(await admin.fetchTopicOffsets(t)).toHaveLength(2);
    await admin.deleteTopicRecords({ topic: t, partitions: [0, 1].map((partition) => ({ partition, offset: "3" })) });
    const before = session.notices.length;
    expect(await consumed(address)).toHaveLength(14);
    const told = session.notices.slice(before).filter((notice) => notice.message.includes(t));
    expect(told).not.toEqual([]);
  });
});
