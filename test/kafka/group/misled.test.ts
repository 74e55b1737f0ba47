import { describe, expect, test } from "vitest";
import { decodeAssignment, encodeAssignment } from "../../../adapters/kafka/group/protocol.ts";
import type { JoinOutcome } from "../../../adapters/kafka/port.ts";
import type { Lies } from "./fake-cluster.ts";
import type { SyncOutcome } from "./fake-coordinator.ts";
import { World } from "./world.ts";

const ORDERS = { orders: 4 };

async function reached(world: World, condition: () => boolean, ms?: number): Promise<void> {
  if (!(await world.until(condition, ms))) throw new Error(`not reached:\n${world.log.slice(-40).join("\n")}`);
}

/** One letter of the topic's name is another one in what a member said. */
function garbled(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const at = copy.indexOf("orders");
  if (at >= 0) copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

const changed = (joined: JoinOutcome, which: (index: number) => boolean): JoinOutcome => ({
  ...joined,
  members: joined.members.map((member, index) =>
    which(index) ? { ...member, metadata: garbled(member.metadata) } : member,
  ),
});
const emptied = (synced: SyncOutcome): SyncOutcome => {
  if (synced.assignment.length === 0) return synced;
  const { topics } = decodeAssignment(synced.assignment, Object.keys(ORDERS));
  return { ...synced, assignment: encodeAssignment({ assigned: [], taken: [], awaited: 0, topics }) };
};

const LIES: readonly (readonly [what: string, lies: Lies])[] = [
  ["what its leader joined with is garbled", { join: (joined) => changed(joined, (index) => index === 0) }],
  ["what others joined with is garbled", { join: (joined) => changed(joined, (index) => index > 0) }],
  ["its leader is told of nobody", { join: (joined) => ({ ...joined, members: [] }) }],
  ["nobody is told to lead", { join: (joined) => ({ ...joined, leader: joined.leader && "somebody" }) }],
  ["assignments hold nothing", { sync: (synced) => ({ ...synced, assignment: Buffer.alloc(0) }) }],
];

/** Each lie is told so often, of those that tell something else than the truth. */
function tell(world: World, { join, sync }: Lies, times: number): { readonly left: () => number } {
  let left = times;
  const once = <Answer>(lie: (answer: Answer) => Answer) => {
    return (answer: Answer): Answer => {
      const lied = left > 0 ? lie(answer) : answer;
      if (JSON.stringify(lied) !== JSON.stringify(answer)) left--;
      return lied;
    };
  };
  if (join !== undefined) world.cluster.lies.join = once(join);
  if (sync !== undefined) world.cluster.lies.sync = once(sync);
  return { left: () => left };
}

describe.each(LIES)("where %s", (what, lies) => {
  test.each([1, 2])("once, a group of %i has everything soon", async (count) => {
    const world = new World(what, ORDERS, 1_000);
    const told = tell(world, lies, 1);
    for (let index = 0; index < count; index++) world.join();
    const ofOthers = what.startsWith("what others");
    await reached(world, () => world.running.length === count && world.isCalm());
    expect(told.left()).toBe(ofOthers && count === 1 ? 1 : 0);
    expect(world.violations).toEqual([]);
  });

  test("again and again, it is said, without haste, and over when it is honest", async () => {
    const world = new World(what, ORDERS, 1_000);
    for (let index = 0; index < 2; index++) world.join();
    tell(world, lies, Number.POSITIVE_INFINITY);
    await world.pass(60_000);
    const failures = world.consumers.flatMap((consumer) => consumer.failures);
    expect(failures.some(({ message }) => message.includes("does not repeat what"))).toBe(true);
    expect(failures.length).toBeLessThan(100);
    expect(world.coordinator.generation).toBeLessThan(150);
    world.cluster.lies.join = undefined;
    world.cluster.lies.sync = undefined;
    await reached(world, () => world.isCalm());
    expect(world.violations).toEqual([]);
  });
});

test("a leader that gets another assignment than it gave itself joins again", async () => {
  const world = new World("emptied", ORDERS);
  tell(world, { sync: emptied }, 1);
  const consumer = world.join();
  await reached(world, () => world.isCalm());
  expect(consumer.works.size).toBe(4);
});
