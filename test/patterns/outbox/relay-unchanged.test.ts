import { expect, test } from "vitest";
import { newRow, RelayWorld, states } from "./relay-world.ts";

const OPTIONS = { pollMs: 1_000, clean: false } as const;

/** A database that takes settlements of m0 and changes nothing, as with a trigger that returns NULL. */
function ignoring(world: RelayWorld, outcomes: readonly string[]): void {
  const { outbox } = world;
  const settle = outbox.settle.bind(outbox);
  outbox.settle = async (token, settlements) => {
    const ignored = settlements.filter(({ position, outcome }) => position === 1 && outcomes.includes(outcome));
    const settled = await settle(
      token,
      settlements.filter((settlement) => !ignored.includes(settlement)),
    );
    // Its claim is over all the same.
    const [first] = outbox.rows;
    if (ignored.length > 0 && first !== undefined) first.token = undefined;
    return [...settled, ...ignored.map(({ position }) => position)];
  };
}

test("a row that is not removed when it was sent is sent once, quarantined and told; those behind it go on", async () => {
  const world = new RelayWorld();
  ignoring(world, ["sent"]);
  world.insert(newRow("m0", { key: "a" }), newRow("m1", { key: "a" }), newRow("m2"));
  const { relay, events } = await world.relay("a", OPTIONS);
  expect(await world.until(() => states(world.outbox).every((state) => state !== "unsent"))).toBe(true);
  expect(states(world.outbox)).toEqual(["quarantined", "sent", "sent"]);
  expect([...world.ids].sort()).toEqual(["m0", "m1", "m2"]);
  const [told] = events.filter(({ type }) => type === "quarantined");
  expect(told).toMatchObject({ id: "m0", error: { code: "conflict", message: expect.stringContaining("trigger") } });
  expect(await world.finish(relay.status())).toMatchObject({ sent: 3, quarantined: 1, held: 0 });

  // Somebody retries it without taking the trigger away.
  await world.outbox.retryQuarantined([1]);
  expect(await world.until(() => states(world.outbox)[0] === "quarantined")).toBe(true);
  expect(world.ids.filter((id) => id === "m0")).toHaveLength(2);
});

test.each([
  ["sent", ["sent", "failed", "quarantined"], "none"],
  ["refused", ["failed", "quarantined"], "refused"],
] as const)("a row that nothing changes is %s without a hurry, and holds nobody up", async (_, outcomes, fault) => {
  const world = new RelayWorld();
  ignoring(world, outcomes);
  world.judge = ({ id }) => (id === "m0" ? fault : "none");
  world.insert(newRow("m0"), newRow("m1"));
  const { relay } = await world.relay("a", OPTIONS);
  await world.pass(600_000);
  world.insert(newRow("m2"));
  expect(await world.until(() => world.ids.includes("m2"), 5_000)).toBe(true);
  expect(states(world.outbox)).toEqual(["unsent", "sent", expect.any(String)]);
  expect(world.ids.filter((id) => id === "m0")).toHaveLength(fault === "none" ? 1 : 0);
  const { failed, quarantined } = await world.finish(relay.status());
  expect(failed + quarantined).toBeGreaterThan(5);
  expect(failed + quarantined).toBeLessThan(40);
  expect(world.outbox.claims).toBeLessThan(1_000);
});
