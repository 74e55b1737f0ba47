import { expect, test } from "vitest";
import { foreignMembers } from "../../../adapters/kafka/group/assignment.ts";
import { PROTOCOL, Writer } from "../../../adapters/kafka/group/protocol.ts";
import type { GroupDescription } from "../../../adapters/kafka/port.ts";
import { isMessagingError } from "../../../core/errors.ts";
import type { FakeConsumer } from "./fake-consumer.ts";
import { World } from "./world.ts";

const OURS: GroupDescription = {
  error: undefined,
  state: "Stable",
  protocol: "classic",
  protocolType: "consumer",
  assignor: PROTOCOL,
  members: 2,
  clients: ["a", "b"],
};
const NEW: GroupDescription = { ...OURS, protocol: "consumer", assignor: "uniform" };
/** As a server assigns to members of the classic protocol: version, partitions, and nothing for us. */
const ASSIGNED = new Writer()
  .int16(3)
  .partitions([{ topic: "orders", partition: 1 }])
  .int32(-1)
  .end();

async function reached(world: World, condition: () => boolean, ms?: number): Promise<void> {
  if (!(await world.until(condition, ms))) throw new Error(`not reached:\n${world.log.slice(-40).join("\n")}`);
}

/** How the first assignment of a consumer ends; undefined while it does not. */
function firstOf({ member }: FakeConsumer): { readonly end: () => unknown } {
  let ended: unknown;
  member.complete.then(
    () => {
      ended = "complete";
    },
    (error: unknown) => {
      ended = error;
    },
  );
  return { end: () => ended };
}

test.each<[string, Partial<GroupDescription>, string | undefined]>([
  ["of ours", {}, undefined],
  ["that is dividing its partitions", { assignor: "" }, undefined],
  ["of nobody", { members: 0, assignor: "range" }, undefined],
  ["of nobody by the new protocol", { ...NEW, members: 0 }, undefined],
  ["of the new protocol", NEW, "KIP-848"],
  ["with another assignor", { assignor: "range" }, '"range"'],
  ["of another kind", { protocolType: "connect", assignor: "sessioned" }, '"connect"'],
])("a group %s", (_, given, said) => {
  const error = foreignMembers("orders", { ...OURS, ...given });
  if (said === undefined) expect(error).toBeUndefined();
  else {
    expect(error?.code).toBe("conflict");
    for (const word of ['group "orders"', "2 members", said, '"a", "b"']) expect(error?.message).toContain(word);
  }
});

test("what foreign members say of themselves is shown on one line, and not at any length", () => {
  const foul = `\u001b[2J\n\u202e${"x".repeat(30_000)}`;
  const clients = Array.from({ length: 1_000 }, (_, index) => `${index}${foul}`);
  for (const given of [{ assignor: foul }, { protocolType: foul }]) {
    const { message = "" } = foreignMembers("orders", { ...OURS, ...given, clients }) ?? {};
    expect(message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(message.length).toBeLessThan(4_000);
    expect(message).toContain("and 980 more");
  }
});

test("a group with members of another protocol is not joined until they are gone", async () => {
  const world = new World("foreign", { orders: 4 });
  world.coordinator.others = { description: NEW, assignment: ASSIGNED };
  const consumer = world.join();
  const first = firstOf(consumer);
  await reached(world, () => isMessagingError(first.end(), "conflict"));
  expect(world.coordinator.memberIds).toEqual([]);
  await world.pass(20_000);
  expect(world.coordinator.memberIds).toEqual([]);
  expect(new Set(consumer.failures.map(({ code }) => code))).toEqual(new Set(["conflict"]));
  world.coordinator.others = undefined;
  await reached(world, () => consumer.works.size === 4);
});

test("a member whose assignment it cannot read leaves, and has nothing of it", async () => {
  const world = new World("unread", { orders: 4 });
  const consumer = world.join();
  await reached(world, () => consumer.works.size === 4);
  // Somebody of the new protocol joins just when it was looked, and the server assigns from then on.
  world.coordinator.others = { description: { ...NEW, members: 0 }, assignment: ASSIGNED };
  const another = world.join();
  const first = firstOf(another);
  await reached(world, () => isMessagingError(first.end(), "conflict"));
  await reached(world, () => consumer.works.size === 0);
  world.coordinator.others = { description: NEW, assignment: ASSIGNED };
  await reached(world, () => world.coordinator.memberIds.length === 0);
  expect(another.works.size).toBe(0);
  await reached(world, () => consumer.failures.some(({ message }) => message.includes("KIP-848")));
  world.coordinator.others = undefined;
  await reached(world, () => world.isCalm());
  expect(world.violations).toEqual([]);
});

test("a group that the coordinator says is none of ours is refused by name", async () => {
  const world = new World("inconsistent", { orders: 4 });
  world.cluster.errors.set("joinGroup", "INCONSISTENT_GROUP_PROTOCOL");
  const first = firstOf(world.join());
  await reached(world, () => isMessagingError(first.end(), "conflict"));
  expect((first.end() as Error).message).toContain('group "orders"');
});
