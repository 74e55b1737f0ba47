import { describe, expect, it } from "vitest";
import {
  beginning,
  decodeProgress,
  encodeProgress,
  OffsetSet,
  type Progress,
} from "../../../adapters/kafka/consuming/progress.ts";
import { Prng } from "../../simulation/prng.ts";
import { identity, topicId } from "../topic-ids.ts";
import { openScripted, type Scripted } from "./open-scripted.ts";

/** Appends so many records, without gaps. */
function append({ logs, cluster }: Scripted, count: number, partition = 0): void {
  for (let more = 0; more < count; more++) logs[partition]?.append(plain);
  cluster.stir();
}

const plain = Object.assign(new Prng("plain"), { chance: () => false });
const upTo = (count: number) => Array.from({ length: count }, (_, offset) => offset);
const messages = ({ notices }: Scripted) => notices.map(({ message }) => message);

/** What stands committed, as offset and the topic that it is said of. */
function standing({ stored }: Scripted, partition = 0) {
  const commit = stored.get(`orders/${partition}`) ?? { offset: -1, metadata: "" };
  return [commit.offset, decodeProgress(commit).of?.id];
}

describe("a topic that is deleted and made again", () => {
  it("is read from its beginning by a consumer that was idle behind what it already has", async () => {
    const scripted = await openScripted({ partitions: 1, records: 30 });
    await scripted.until(() => scripted.held.length === 30);
    void scripted.settle(scripted.held);
    expect(await scripted.until(() => standing(scripted)[0] === 30)).toBe(true);
    // At once: nobody ever sees it missing, and it is longer than it was.
    scripted.logs[0]?.recreate();
    append(scripted, 100);
    expect(await scripted.until(() => scripted.held.length === 130)).toBe(true);
    expect(scripted.offsets().slice(30)).toEqual(upTo(100));
    expect(messages(scripted)).toEqual([expect.stringContaining('topic "orders" is another one')]);
    void scripted.settle(scripted.held.slice(30));
    expect(await scripted.until(() => standing(scripted)[0] === 100)).toBe(true);
    expect(standing(scripted)).toEqual([100, topicId("orders", 2)]);
    // Ids of records that have none of their own differ by this.
    const lives = scripted.held.map((delivered) => delivered.topicId);
    expect(lives).toEqual([...Array(30).fill(topicId("orders", 1)), ...Array(100).fill(topicId("orders", 2))]);
  });

  it("takes along what is held and read ahead, and none of it is confirmed in its place", async () => {
    const scripted = await openScripted({ partitions: 1, records: 200, options: { prefetch: 10 } });
    await scripted.until(() => scripted.held.length === 10);
    scripted.logs[0]?.recreate();
    append(scripted, 5);
    expect(await scripted.until(() => scripted.lost.length === 10)).toBe(true);
    expect(await scripted.settle(scripted.held.slice(0, 10))).toEqual(Array(10).fill("fenced"));
    expect(await scripted.until(() => scripted.held.length === 15)).toBe(true);
    expect(scripted.offsets().slice(10)).toEqual(upTo(5));
    expect(scripted.held.slice(10).map(({ crashes }) => crashes)).toEqual([0, 0, 0, 0, 0]);
  });

  it("is noticed while there is room for nothing more", async () => {
    // What is read ahead fills the buffer; nothing of it is settled.
    const scripted = await openScripted({ partitions: 1, records: 9_000, options: { prefetch: 1 }, maxBufferBytes: 1 });
    await scripted.until(() => scripted.held.length === 1);
    await scripted.pass(2_000);
    const { length } = scripted.asked;
    await scripted.pass(5_000);
    expect(scripted.asked).toHaveLength(length);
    scripted.logs[0]?.recreate();
    append(scripted, 3);
    expect(await scripted.until(() => scripted.held.length === 2, 15_000)).toBe(true);
    expect(scripted.held[1]?.record.offset).toBe(0);
    expect(scripted.lost).toHaveLength(1);
  });

  it("is told once, however many partitions it has", async () => {
    const scripted = await openScripted({ partitions: 4, records: 10 });
    await scripted.until(() => scripted.held.length === 40);
    for (const log of scripted.logs) log.recreate();
    for (const partition of upTo(4)) append(scripted, 20, partition);
    expect(await scripted.until(() => scripted.held.length === 120)).toBe(true);
    expect(scripted.notices).toHaveLength(1);
    expect(scripted.counts.refreshed).toBeGreaterThan(0);
    for (const log of scripted.logs) log.recreate();
    for (const partition of upTo(4)) append(scripted, 1, partition);
    expect(await scripted.until(() => scripted.held.length === 124)).toBe(true);
    expect(scripted.notices).toHaveLength(2);
  });

  it("is another one after it was away, whatever still stands committed", async () => {
    const scripted = await openScripted({ partitions: 1, records: 3 });
    await scripted.until(() => scripted.held.length === 3 && scripted.stored.size === 1);
    const [log] = scripted.logs;
    scripted.cluster.logs.clear();
    await scripted.until(() => scripted.notices.length > 0);
    log?.recreate();
    if (log !== undefined) scripted.cluster.logs.set("orders/0", log);
    append(scripted, 3);
    expect(await scripted.until(() => scripted.held.length === 6)).toBe(true);
    expect(scripted.lost).toHaveLength(3);
    expect(scripted.notices.map(({ code }) => code)).toEqual(["not-found", "conflict"]);
    expect(scripted.offsets()).toEqual([0, 1, 2, 0, 1, 2]);
  });

  it("is read from its beginning where a commit for the one before came late, or was never removed", async () => {
    const late: Progress = { offset: 30, watermark: 60, crashes: [50], finished: OffsetSet.of(30, [31, 35]) };
    const committed = new Map([[0, { offset: 30, metadata: encodeProgress(late, identity("orders", 0)) }]]);
    const scripted = await openScripted({ partitions: 1, records: 100, committed });
    expect(await scripted.until(() => scripted.held.length === 100)).toBe(true);
    expect(scripted.offsets()).toEqual(upTo(100));
    expect(scripted.held.every(({ crashes }) => crashes === 0)).toBe(true);
    expect(messages(scripted)).toEqual([expect.stringContaining("was deleted and made again")]);
  });

  it("is not taken for another one when a commit of somebody else says nothing of it", async () => {
    const committed = new Map([[0, { offset: 30, metadata: "set by a tool" }]]);
    const scripted = await openScripted({ partitions: 1, records: 100, committed });
    expect(await scripted.until(() => scripted.held.length === 70)).toBe(true);
    expect(scripted.offsets()[0]).toBe(30);
    expect(scripted.notices).toEqual([]);
    scripted.logs[0]?.recreate();
    append(scripted, 40);
    expect(await scripted.until(() => scripted.held.length === 110)).toBe(true);
    expect(scripted.offsets().slice(70)).toEqual(upTo(40));
  });

  it("is not read at the beginning of the log that its leader still has of the one before", async () => {
    const scripted = await openScripted({ partitions: 1, records: 0, committed: new Map() });
    await scripted.until(() => scripted.asked.length > 0);
    scripted.logs[0]?.recreate();
    append(scripted, 60);
    // Its leader still answers for the log of before, by name, when it is asked where that begins.
    scripted.script.places = (listed) => listed.map((one) => ({ ...one, offset: 50 }));
    expect(await scripted.until(() => scripted.held.length === 60)).toBe(true);
    expect(scripted.offsets()).toEqual(upTo(60));
  });
});

describe("offsets that were brought from another topic", () => {
  const progress: Progress = { offset: 30, watermark: 60, crashes: [50], finished: OffsetSet.of(30, [31, 35, 36]) };
  const elsewhere = encodeProgress(progress, identity("orders", 9, "the other cluster"));

  it.each([
    ["translated", 12],
    ["the same by chance", 30],
  ])("count where they were %s, and what stands beside them does not", async (_, offset) => {
    const committed = new Map([[0, { offset, metadata: elsewhere }]]);
    const scripted = await openScripted({ partitions: 1, records: 100, committed });
    expect(await scripted.until(() => scripted.held.length === 100 - offset)).toBe(true);
    expect(scripted.offsets()).toEqual(upTo(100).slice(offset));
    expect(scripted.held.every(({ crashes }) => crashes === 0)).toBe(true);
  });

  it("are told of where that can be known", async () => {
    const committed = new Map([[0, { offset: 30, metadata: elsewhere }]]);
    const scripted = await openScripted({ partitions: 1, records: 40, committed });
    expect(await scripted.until(() => scripted.held.length === 10)).toBe(true);
    expect(messages(scripted)).toEqual([expect.stringContaining("brought here from another topic")]);
  });

  it("count in the very topic too, where a tool moved them and left the rest as it was", async () => {
    const committed = new Map([[0, { offset: 4, metadata: encodeProgress(progress, identity("orders")) }]]);
    const scripted = await openScripted({ partitions: 1, records: 40, committed });
    expect(await scripted.until(() => scripted.held.length === 36)).toBe(true);
    expect(scripted.offsets()).toEqual(upTo(40).slice(4));
    expect(scripted.notices).toEqual([]);
    expect(decodeProgress({ offset: 4, metadata: "" })).toEqual({ progress: beginning(4), of: undefined });
  });
});
