import { describe, expect, it } from "vitest";
import { beginning, decodeProgress, encodeProgress } from "../../../adapters/kafka/consuming/progress.ts";
import type { FetchedPartition } from "../../../adapters/kafka/port.ts";
import type { DecodedRecords } from "../../../adapters/kafka/records/contract.ts";
import { MessagingError } from "../../../core/errors.ts";
import { record, stored } from "../records/batches.ts";
import { identity } from "../topic-ids.ts";
import { openScripted } from "./open-scripted.ts";

const refused = (error: string) => (fetched: FetchedPartition) => ({ ...fetched, error, records: Buffer.alloc(0) });

describe("reading partitions", () => {
  it("stops before what cannot be read, says where, and goes on elsewhere", async () => {
    const scripted = await openScripted({ partitions: 2, records: 100 });
    scripted.script.misread = (decoded, { partition, from }) => {
      if (partition !== 0) return decoded;
      const records = decoded.records.filter(({ offset }) => offset < 7);
      const error = new MessagingError("invalid", "its checksum is wrong");
      return {
        records,
        nextOffset: Math.max(from, Math.min(7, decoded.nextOffset)),
        unreadable: { offset: 7, error, resumeAt: 9 },
      };
    };
    expect(await scripted.until(() => scripted.stalls.length > 0 && scripted.offsets(1).length === 100)).toBe(true);
    expect(scripted.offsets(0)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(scripted.stalls[0]?.code).toBe("invalid");
    expect(scripted.stalls[0]?.message).toContain('partition 0 of topic "orders" stops at offset 7');
    const before = scripted.asked.length;
    await scripted.pass(60_000);
    const tries = scripted.asked
      .slice(before)
      .filter(({ partitions }) => partitions.some((one) => one.partition === 0));
    expect(tries.length).toBeLessThan(60);
    expect(scripted.stalls.length).toBeLessThan(5);
    expect(scripted.counts.flowing).toBe(0);
    scripted.script.misread = (decoded) => decoded;
    expect(await scripted.until(() => scripted.offsets(0).length === 100)).toBe(true);
  });

  it("tells a missing right at once, and again when it lasts", async () => {
    const scripted = await openScripted({ partitions: 1, records: 3 });
    scripted.script.tamper = (_, answer) => answer.map(refused("TOPIC_AUTHORIZATION_FAILED"));
    expect(await scripted.until(() => scripted.stalls.length === 1, 2_000)).toBe(true);
    expect(scripted.stalls[0]?.code).toBe("unauthorized");
    expect(await scripted.until(() => scripted.stalls.length === 2, 60_000)).toBe(true);
    scripted.script.tamper = (_, answer) => answer;
    expect(await scripted.until(() => scripted.held.length === 3)).toBe(true);
  });

  it("does not mention a leader that moved", async () => {
    const scripted = await openScripted({ partitions: 1, records: 3 });
    await scripted.until(() => scripted.held.length === 3);
    (scripted.logs[0] as { leader: number }).leader = 2;
    scripted.logs[0]?.append({ chance: () => false } as never);
    expect(await scripted.until(() => scripted.held.length === 4, 5_000)).toBe(true);
    expect(scripted.stalls).toEqual([]);
  });

  it("says that it flows again when nothing has come yet", async () => {
    const scripted = await openScripted({ partitions: 1, records: 0 });
    scripted.script.tamper = (_, answer) => answer.map(refused("KAFKA_STORAGE_ERROR"));
    expect(await scripted.until(() => scripted.stalls.length > 0)).toBe(true);
    scripted.script.tamper = (_, answer) => answer;
    expect(await scripted.until(() => scripted.counts.flowing === 1, 10_000)).toBe(true);
    await scripted.pass(10_000);
    expect(scripted.counts.flowing).toBe(1);
  });

  it("connects anew where nothing is heard any more, and says so", async () => {
    const scripted = await openScripted({ partitions: 2, records: 5 });
    await scripted.until(() => scripted.held.length === 10);
    scripted.script.tamper = () => undefined;
    const { connections } = scripted.counts;
    expect(await scripted.until(() => scripted.stalls.length > 0, 60_000)).toBe(true);
    expect(scripted.stalls[0]?.message).toContain("nothing was heard of partition");
    expect(scripted.counts.connections).toBe(connections + 1);
    scripted.script.tamper = (_, answer) => answer;
    for (const log of scripted.logs) log.append({ chance: () => false } as never);
    expect(await scripted.until(() => scripted.held.length === 12, 40_000)).toBe(true);
  });

  it("connects anew where there is something and nothing comes", async () => {
    const scripted = await openScripted({ partitions: 1, records: 5 });
    scripted.script.tamper = (_, answer) => answer.map((one) => ({ ...one, records: Buffer.alloc(0) }));
    const { connections } = scripted.counts;
    expect(await scripted.until(() => scripted.counts.connections > connections, 40_000)).toBe(true);
    expect(scripted.stalls.map(({ message }) => message)).toEqual([expect.stringContaining("5 offsets to read")]);
  });

  it("names an open transaction that holds everything back", async () => {
    const scripted = await openScripted({ partitions: 1, records: 5 });
    scripted.script.tamper = (_, answer) =>
      answer.map((one) => ({ ...one, lastStableOffset: 0, records: Buffer.alloc(0) }));
    const { connections } = scripted.counts;
    expect(await scripted.until(() => scripted.stalls.length > 0, 40_000)).toBe(true);
    expect(scripted.stalls[0]?.message).toContain("a transaction of another producer is open");
    expect(scripted.counts.connections).toBe(connections);
  });

  it("says that a topic is gone, once, and goes on when it is back", async () => {
    const scripted = await openScripted({ partitions: 1, records: 3 });
    await scripted.until(() => scripted.held.length === 3);
    expect(await scripted.until(() => scripted.stored.size === 1)).toBe(true);
    const [log] = scripted.logs;
    scripted.cluster.logs.clear();
    expect(await scripted.until(() => scripted.notices.length > 0)).toBe(true);
    expect(scripted.notices.map(({ code }) => code)).toEqual(["not-found"]);
    expect(scripted.counts.refreshed).toBeGreaterThan(0);
    const { commits } = scripted.counts;
    const settled = scripted.settle(scripted.held);
    await scripted.pass(30_000);
    expect(scripted.counts.commits).toBe(commits);
    expect(scripted.notices).toHaveLength(1);
    if (log !== undefined) scripted.cluster.logs.set("orders/0", log);
    let results: readonly string[] = [];
    void settled.then((found) => {
      results = found;
    });
    expect(await scripted.until(() => results.length === 3)).toBe(true);
    expect(results).toEqual(["settled", "settled", "settled"]);
    expect(scripted.lost).toEqual([]);
  });

  it("takes a log for shorter than it was only when it is told so again and again", async () => {
    const committed = new Map([[0, { offset: 50, metadata: "" }]]);
    const scripted = await openScripted({ partitions: 1, records: 40, committed });
    const [log] = scripted.logs;
    await scripted.until(() => scripted.asked.length === 1);
    await scripted.pass(300);
    if (log === undefined) throw new Error("no log");
    // The next leader knows better.
    for (let more = 0; more < 11; more++) log.append({ chance: () => false } as never);
    expect(await scripted.until(() => scripted.held.length === 1)).toBe(true);
    expect(scripted.offsets()).toEqual([50]);
    expect(scripted.notices).toEqual([]);

    const shorter = await openScripted({ partitions: 1, records: 40, committed });
    expect(await shorter.until(() => shorter.held.length === 40)).toBe(true);
    expect(shorter.notices.map(({ code }) => code)).toEqual(["conflict"]);
  });

  it("goes on at the earliest that is kept where somebody committed what no log reaches, and elsewhere at once", async () => {
    const committed = new Map([[0, { offset: Number.MAX_SAFE_INTEGER, metadata: "" }]]);
    const scripted = await openScripted({ partitions: 4, records: 40, committed });
    scripted.logs[0]?.deleteBefore(10);
    expect(await scripted.until(() => scripted.held.length >= 120)).toBe(true);
    expect(await scripted.until(() => scripted.held.length === 150)).toBe(true);
    expect(scripted.offsets(0)[0]).toBe(10);
    expect(scripted.notices.map(({ message }) => message)).toEqual([
      expect.stringContaining("another client committed that offset for the group; it is consumed again from 10"),
    ]);
    // Whoever comes next finds a position that can be.
    expect(await scripted.until(() => scripted.stored.get("orders/0")?.offset === 10)).toBe(true);
  });

  it("says how many records were deleted before they were read", async () => {
    const committed = new Map([
      [
        0,
        { offset: 5, metadata: encodeProgress({ ...beginning(5), watermark: 20, crashes: [9] }, identity("orders")) },
      ],
    ]);
    const scripted = await openScripted({ partitions: 1, records: 40, committed });
    scripted.logs[0]?.deleteBefore(30);
    expect(await scripted.until(() => scripted.held.length === 10)).toBe(true);
    expect(scripted.notices.map(({ message }) => message)).toEqual([
      expect.stringContaining("25 offsets were deleted before they were read"),
    ]);
    expect(scripted.held.every(({ crashes }) => crashes === 0)).toBe(true);
  });

  it("says so as well where the broker only hints at it", async () => {
    const scripted = await openScripted({ partitions: 1, records: 40 });
    scripted.script.tamper = (_, answer) => answer.map((one) => ({ ...one, logStartOffset: 12 }));
    scripted.script.misread = (decoded) => ({
      ...decoded,
      records: decoded.records.filter(({ offset }) => offset >= 12),
    });
    expect(await scripted.until(() => scripted.held.length === 28)).toBe(true);
    // The first pieces may have held nothing that is kept.
    expect(scripted.notices[0]?.message).toMatch(/begins at 12: \d+ offsets were deleted/);
  });

  it("begins a partition without a commit at the earliest that is kept", async () => {
    const scripted = await openScripted({ partitions: 2, records: 10 });
    scripted.logs[1]?.deleteBefore(4);
    expect(await scripted.until(() => scripted.held.length === 16)).toBe(true);
    expect(scripted.notices.map(({ message }) => message)).toEqual([
      expect.stringContaining("has no offset for partition 1"),
    ]);
    expect(scripted.offsets(1)).toEqual([4, 5, 6, 7, 8, 9]);
  });

  it("reads ahead only as far as its buffers go", async () => {
    const maxBufferBytes = 2 * 1024 * 1024;
    const scripted = await openScripted({ partitions: 4, records: 20_000, options: { prefetch: 1 }, maxBufferBytes });
    const read = new Map<number, number>();
    scripted.script.misread = (decoded, { partition }) => {
      read.set(partition, (read.get(partition) ?? 0) + decoded.records.length);
      return decoded;
    };
    await scripted.pass(120_000);
    expect(scripted.held).toHaveLength(1);
    // A record takes some 200 bytes beside its own.
    for (const count of read.values()) {
      expect(count).toBeGreaterThan(100);
      expect(count * 200).toBeLessThan(maxBufferBytes / 2);
    }
  });

  it("asks about a partition that has room again while it waits for others", async () => {
    const scripted = await openScripted({
      partitions: 2,
      records: 5_000,
      options: { prefetch: 1_000, prefetchPer: "partition" },
      maxBufferBytes: 1024 * 1024,
    });
    await scripted.until(() => scripted.offsets(0).length === 1_000 && scripted.offsets(1).length === 1_000);
    // Partition 0 is read to its end, and waits there.
    while (scripted.offsets(0).length < 5_000) {
      const { length } = scripted.offsets(0);
      void scripted.settle(scripted.held.filter(({ partition }) => partition === 0).slice(length - 1_000));
      await scripted.until(() => scripted.offsets(0).length > length);
    }
    await scripted.pass(1_000);
    const before = scripted.asked.length;
    void scripted.settle(scripted.held.filter(({ partition }) => partition === 1));
    expect(await scripted.until(() => scripted.asked.length > before, 500)).toBe(true);
    expect(scripted.asked.slice(before).map(({ partitions }) => partitions.map(({ partition }) => partition))).toEqual([
      [1],
    ]);
  });

  it("waits long only for what it has read to the end", async () => {
    const scripted = await openScripted({ partitions: 1, records: 3 });
    await scripted.until(() => scripted.held.length === 3);
    await scripted.pass(30_000);
    expect(scripted.asked[0]?.maxWaitMs).toBe(0);
    expect(scripted.asked.length).toBeLessThan(10);
  });

  it("takes a quota that is used up for no silence, and names it where nothing comes for long", async () => {
    const scripted = await openScripted({ partitions: 2, records: 5 });
    await scripted.until(() => scripted.held.length === 10);
    const { connections } = scripted.counts;
    const slowly = async (): Promise<readonly FetchedPartition[]> => {
      await new Promise<void>((resolve) => scripted.cluster.time.schedule(resolve, 1_000));
      return [];
    };
    scripted.script.tamper = () => slowly();
    for (const log of scripted.logs) log.append({ chance: () => false } as never);
    scripted.cluster.stir();
    expect(await scripted.until(() => scripted.stalls.length > 0, 60_000)).toBe(true);
    expect(scripted.stalls[0]).toMatchObject({
      code: "timeout",
      message: expect.stringContaining("its quota") as string,
    });
    await scripted.pass(60_000);
    expect(scripted.counts.connections).toBe(connections);
    scripted.script.tamper = (_, answer) => answer;
    expect(await scripted.until(() => scripted.held.length === 12)).toBe(true);
  });

  it("names a codec that does not end, calls it once, and reads on when it ends", async () => {
    const bytes = stored({ records: [record("a")], attributes: 2 });
    let isFoul = true;
    let calls = 0;
    const codec = Promise.withResolvers<void>();
    const scripted = await openScripted({
      partitions: 2,
      records: 5,
      decode: (piece, at) => {
        const read = (): DecodedRecords => scripted.cluster.pieces.decode(piece, at.from);
        if (at.partition === 1) return read();
        if (!isFoul) return read();
        calls++;
        return codec.promise.then(() => ({ records: [], nextOffset: at.from, unreadable: undefined }));
      },
    });
    scripted.script.tamper = (_, answer) =>
      answer.map((piece) => (isFoul && piece.partition === 0 ? { ...piece, records: bytes } : piece));
    expect(await scripted.until(() => scripted.stalls.length > 0, 60_000)).toBe(true);
    expect(scripted.stalls[0]).toMatchObject({ code: "timeout", message: expect.stringContaining("codec for snappy") });
    const { connections } = scripted.counts;
    await scripted.pass(120_000);
    // Also on another connection, for whatever reason there is one.
    expect([calls, scripted.counts.connections]).toEqual([1, connections]);
    expect(scripted.offsets(1)).toHaveLength(5);
    isFoul = false;
    codec.resolve();
    expect(await scripted.until(() => scripted.offsets(0).length === 5)).toBe(true);
  });

  it("tells nothing of partitions that are not led yet, and once of all where it lasts", async () => {
    const scripted = await openScripted({ partitions: 300, records: 1 });
    scripted.script.tamper = (_, answer) => answer.map(refused("NOT_LEADER_FOR_PARTITION"));
    await scripted.pass(5_000);
    expect(scripted.stalls).toEqual([]);
    await scripted.pass(20_000);
    expect(scripted.stalls).toHaveLength(1);
    expect(scripted.stalls[0]?.message).toMatch(/^partition \d+ of topic "orders" cannot be read for now/);
    await scripted.pass(30_000);
    expect(scripted.stalls).toHaveLength(2);
    scripted.script.tamper = (_, answer) => answer;
    expect(await scripted.until(() => scripted.held.length === 300)).toBe(true);
  });

  it("tells what befalls many partitions once, and how many they are", async () => {
    const scripted = await openScripted({ partitions: 300, records: 1 });
    await scripted.until(() => scripted.held.length === 300);
    scripted.script.tamper = (_, answer) => answer.map(refused("TOPIC_AUTHORIZATION_FAILED"));
    expect(await scripted.until(() => scripted.stalls.length > 0)).toBe(true);
    await scripted.pass(1_000);
    expect(scripted.stalls.map(({ code }) => code)).toEqual(["unauthorized"]);
    expect(scripted.stalls[0]?.message).toContain("(the same of 299 other partitions)");

    const gone = await openScripted({ partitions: 300, records: 1 });
    await gone.until(() => gone.held.length === 300);
    gone.cluster.logs.clear();
    expect(await gone.until(() => gone.notices.length > 0)).toBe(true);
    await gone.pass(30_000);
    // Some are asked about a little later than the others.
    expect(gone.notices.length + gone.stalls.length).toBeLessThan(20);

    const silent = await openScripted({ partitions: 300, records: 1 });
    await silent.until(() => silent.held.length === 300);
    silent.script.tamper = () => undefined;
    expect(await silent.until(() => silent.stalls.length > 0, 60_000)).toBe(true);
    expect(silent.stalls[0]?.message).toContain("(the same of 299 other partitions)");
    expect(silent.stalls).toHaveLength(1);
  });
});

describe("committing", () => {
  it("tries again for one partition while others go on, and tells when it lasts", async () => {
    const scripted = await openScripted({ partitions: 2, records: 5 });
    await scripted.until(() => scripted.held.length === 10);
    scripted.script.commit = (key) => (key === "orders/0" ? "failed" : "committed");
    const results = new Map<number, string>();
    for (const held of scripted.held) {
      void scripted
        .settle([held])
        .then(([result]) => results.set(held.partition * 100 + held.record.offset, String(result)));
    }
    expect(await scripted.until(() => results.size === 5, 1_000)).toBe(true);
    const { commits } = scripted.counts;
    await scripted.pass(60_000);
    expect(scripted.counts.commits - commits).toBeLessThan(80);
    expect(scripted.stalls[0]?.message).toContain("commits of group");
    expect(results.size).toBe(5);
    scripted.script.commit = () => "committed";
    expect(await scripted.until(() => results.size === 10, 10_000)).toBe(true);
    expect(new Set(results.values())).toEqual(new Set(["settled"]));
    expect(await scripted.until(() => scripted.counts.flowing === 1, 10_000)).toBe(true);
  });

  it("begins anew with a partition that was refused and not taken away", async () => {
    const scripted = await openScripted({ partitions: 1, records: 5 });
    await scripted.until(() => scripted.held.length === 5);
    scripted.script.commit = () => "fenced";
    let results: readonly string[] = [];
    void scripted.settle(scripted.held.slice(0, 2)).then((found) => {
      results = found;
    });
    expect(await scripted.until(() => results.length === 2)).toBe(true);
    expect(results).toEqual(["fenced", "fenced"]);
    expect(scripted.lost).toHaveLength(3);
    scripted.script.commit = () => "committed";
    expect(await scripted.until(() => scripted.held.length === 10, 10_000)).toBe(true);
    expect(scripted.held.slice(5).every(({ crashes }) => crashes === 1)).toBe(true);
  });

  it("gives up on what is out too long when others are to have its partition", async () => {
    const scripted = await openScripted({ partitions: 2, records: 5 });
    await scripted.until(() => scripted.held.length === 10);
    let isRevoked = false;
    void scripted.owner.revoke([{ topic: "orders", partition: 0 }]).then(() => {
      isRevoked = true;
    });
    const done = scripted.held.filter(({ partition, record }) => partition === 0 && record.offset > 2);
    const settled = scripted.settle(done);
    expect(await scripted.until(() => isRevoked)).toBe(true);
    expect(await settled).toEqual(["settled", "settled"]);
    expect(scripted.lost.map(({ partition, record }) => [partition, record.offset])).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
    ]);
    const { offset, metadata } = scripted.stored.get("orders/0") ?? { offset: -1, metadata: "" };
    expect(offset).toBe(0);
    expect(decodeProgress({ offset, metadata }).progress.watermark).toBe(0);
    expect(await scripted.settle(scripted.lost)).toEqual(["fenced", "fenced", "fenced"]);
  });

  it("hands out nothing more of what others are to have", async () => {
    const scripted = await openScripted({ partitions: 1, records: 9, options: { prefetch: 2 } });
    await scripted.until(() => scripted.held.length === 2);
    let isRevoked = false;
    void scripted.owner.revoke(scripted.logs).then(() => {
      isRevoked = true;
    });
    const settled = scripted.settle(scripted.held);
    expect(await scripted.until(() => isRevoked, 500)).toBe(true);
    expect(await settled).toEqual(["settled", "settled"]);
    expect(scripted.offsets()).toEqual([0, 1]);
    expect(scripted.lost).toEqual([]);
    const metadata = encodeProgress(beginning(2), identity("orders"));
    expect(scripted.stored.get("orders/0")).toMatchObject({ offset: 2, metadata });
  });

  it("blames nobody's crash on what came after it", async () => {
    const metadata = encodeProgress({ ...beginning(1), watermark: 900 }, identity("orders"));
    const scripted = await openScripted({
      partitions: 1,
      records: 3,
      committed: new Map([[0, { offset: 1, metadata }]]),
    });
    await scripted.until(() => scripted.held.length === 2);
    for (let more = 0; more < 5; more++) scripted.logs[0]?.append({ chance: () => false } as never);
    scripted.cluster.stir();
    expect(await scripted.until(() => scripted.held.length === 7)).toBe(true);
    expect(scripted.held.map(({ crashes }) => crashes)).toEqual([1, 1, 0, 0, 0, 0, 0]);
  });

  it("lets little be blamed on it while nothing comes", async () => {
    const scripted = await openScripted({ partitions: 1, records: 2_000 });
    await scripted.until(() => scripted.held.length === 1_000);
    for (let from = 0; from < 2_000; from += 500) {
      await scripted.until(() => scripted.held.length >= from + 500);
      void scripted.settle(scripted.held.slice(from, from + 500));
    }
    const watermark = () =>
      decodeProgress(scripted.stored.get("orders/0") ?? { offset: 0, metadata: "" }).progress.watermark;
    expect(await scripted.until(() => scripted.stored.get("orders/0")?.offset === 2_000)).toBe(true);
    expect(await scripted.until(() => watermark() <= 2_016, 10_000)).toBe(true);
    const { commits } = scripted.counts;
    await scripted.pass(60_000);
    expect(scripted.counts.commits).toBeLessThanOrEqual(commits + 1);
  });
});
