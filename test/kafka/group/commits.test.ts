import { expect, test } from "vitest";
import { Commits, type CommitsContext, type OwnedPartition } from "../../../adapters/kafka/group/assignment.ts";
import { CoordinatorLink, WakeSignal } from "../../../adapters/kafka/group/coordinator.ts";
import type { KafkaClient, KafkaConnection, OffsetCommit, PartitionOutcome } from "../../../adapters/kafka/port.ts";
import { systemClock } from "../../../core/clock.ts";

const OFFSET = { topic: "orders", partition: 0, offset: 5, metadata: "" };

/** Commits of a member that holds one partition; `answer` is what the coordinator says, and what happens before. */
function open(answer: (commit: OffsetCommit, attempt: number) => Partial<PartitionOutcome>) {
  const clock = systemClock();
  const sent: OffsetCommit[] = [];
  const fenced: string[] = [];
  const state = { hold: hold() as OwnedPartition | undefined, generation: 1, renewals: 0 };
  const connection = {
    coordinator: async () => ({ error: undefined, node: 1 }),
    commitOffsets: async (_node: number, commit: OffsetCommit) => {
      sent.push(commit);
      const said = answer(commit, sent.length);
      return commit.offsets.map(({ topic, partition }) => ({ topic, partition, error: undefined, ...said }));
    },
    close: async () => undefined,
  };
  const client: KafkaClient = { connection: () => connection as unknown as KafkaConnection };
  const host: CommitsContext = {
    isClosed: () => false,
    membership: () => ({ group: "orders", memberId: "member-1", generation: state.generation }),
    ownedPartition: () => state.hold,
    fenced: (_membership, name) => {
      fenced.push(name);
      state.hold = undefined;
    },
    renewGeneration: () => {
      state.renewals++;
      state.generation++;
    },
    report: () => undefined,
    backoffMs: () => 0,
  };
  const link = new CoordinatorLink(client, "orders", clock, 10_000);
  const commits = new Commits("orders", link, host, clock, 10_000, new WakeSignal(clock));
  return { commits, sent, fenced, state };
}

function hold(): OwnedPartition {
  return { topic: "orders", partition: 0, leaving: false };
}

test("is tried again while the group is busy, with the generation of then", async () => {
  const { commits, sent, state } = open((_commit, attempt) => {
    state.generation = attempt + 1;
    return { error: ["REBALANCE_IN_PROGRESS", "GROUP_LOAD_IN_PROGRESS", "NOT_COORDINATOR_FOR_GROUP"][attempt - 1] };
  });
  expect(await commits.commit([OFFSET])).toEqual(["committed"]);
  expect(sent.map(({ generation }) => generation)).toEqual([1, 2, 3, 4]);
});

test("is not tried again for a partition that was lost in between, though it is ours again", async () => {
  const { commits, sent, state } = open(() => {
    state.hold = hold();
    return { error: "NOT_COORDINATOR_FOR_GROUP" };
  });
  expect(await commits.commit([OFFSET])).toEqual(["fenced"]);
  expect(sent).toHaveLength(1);
});

test("is tried again in the next generation only if it was not answered", async () => {
  const { commits, sent, state } = open((_commit, attempt) => {
    if (attempt === 1) throw new Error("the connection broke");
    return {};
  });
  expect(await commits.commit([OFFSET])).toEqual(["committed"]);
  expect(state.renewals).toBe(1);
  expect(sent.map(({ generation }) => generation)).toEqual([1, 2]);
});

test.each(["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"])(
  "%s ends the membership",
  async (error) => {
    const { commits, fenced } = open(() => ({ error }));
    expect(await commits.commit([OFFSET])).toEqual(["fenced"]);
    expect(fenced).toEqual([error]);
  },
);

test.each(["OFFSET_METADATA_TOO_LARGE", "INVALID_COMMIT_OFFSET_SIZE", "TOPIC_AUTHORIZATION_FAILED"])(
  "%s is not tried again",
  async (error) => {
    const { commits, sent } = open(() => ({ error }));
    expect(await commits.commit([OFFSET])).toEqual(["failed"]);
    expect(sent).toHaveLength(1);
  },
);
